"""What the runs of a folder can be selected and ordered by: their state, their settings and their metrics."""

import functools
from typing import Any

from workbench.formatting import duration
from workbench.tui.home.board import Board, Row
from workbench.tui.preferences import Preferences
from workbench.tui.text import SORTS_FIRST, decimal
from workbench.views.metrics import METRIC_LABELS, metric_label
from workbench.views.query import Query, parse_query

SORTS = ("newest", "name", "state", "progress", "metric", "loss", "time left")
FIELDS = ("name", "state", "recipe", "study", "cell", "seed", "step", "progress", "loss", "left_s")
LISTED = ("state", "recipe", "study", "cell")  # fields of few values, which are completed
LAST = float("inf")
NO_VALUE = (2, "")  # after numbers and text


def value(row: Row, name: str) -> Any:
    """A run's field, metric or setting; None without one. Progress and metrics are in percent, as they are shown."""
    if (trace := row.metrics.get(name)) is not None:
        return None if trace.last is None else trace.last * metric_label(name).factor
    status, origin = row.status, row.origin
    if name in ("step", "recipe"):
        return getattr(status, name, None)
    if name in ("study", "cell", "seed") and origin is not None:
        return getattr(origin, name)
    if name == "progress":
        return None if row.share is None else 100 * row.share
    own = {"name": row.run.id, "state": row.state or None, "loss": row.loss, "left_s": row.left_s}
    return own[name] if name in own else row.settings.get(name)


def names(board: Board) -> list[str]:
    """What a query may name: fields, metrics, then settings."""
    metrics = [name for name in METRIC_LABELS if name in board.metric_names]
    return list(dict.fromkeys([*FIELDS, *metrics, *board.metric_names, *board.setting_names]))


def values(board: Board) -> dict[str, list[str]]:
    """The values of the fields that have few, for completion."""
    rows = board.rows.values()
    return {name: sorted({str(found) for row in rows if (found := value(row, name))}) for name in LISTED}


def query_of(board: Board, text: str) -> Query:
    """The query; words alone need no names. Raises ValueError as :func:`parse_query`."""
    return parse_query(text, names(board) if any(sign in text for sign in ":=<>!") else ())


def searched(row: Row) -> str:
    """The text that the words of a query are searched in: name, state, recipe, study and cell."""
    status, origin = row.status, row.origin
    parts = [row.run.id, *([status.state, status.recipe] if status else [])]
    return " ".join([*parts, *([origin.study, origin.cell] if origin else [])])


def ordered(board: Board, preferences: Preferences, query: Query, metric: str) -> list[Row]:
    """The runs that match the query: live ones first, then by the chosen order; grouped in the view "by study"."""
    rows = list(board.rows.values())
    if query.terms:
        rows = [row for row in rows if query.matches(functools.partial(value, row), searched(row))]
    rows.sort(key=lambda row: row.age, reverse=preferences.is_reversed and preferences.sort == "newest")
    # Two stable sorts: what has no value is last in either direction.
    keys = {row.run.id: sort_key(row, preferences.sort, metric) for row in rows}
    rows.sort(key=lambda row: keys[row.run.id], reverse=preferences.is_reversed)
    rows.sort(key=lambda row: (not row.is_live, keys[row.run.id] in (LAST, NO_VALUE)))
    # The sort is stable: within a study, cells and seeds in the order of the study.
    if preferences.view == "by study":
        rows.sort(key=lambda row: (row.origin.study, row.origin.trial, row.origin.seed) if row.origin else ("", 0, 0))
    return rows


def sort_key(row: Row, sort: str, metric: str) -> Any:
    """The key of a run in an order of ``SORTS``, or by a field, setting or metric: numbers, then text."""
    trace = row.metrics.get(metric)
    state = row.state or "~"
    worse_first = metric_label(metric).higher_is_better is False
    if sort in ("newest", ""):
        return 0
    keys: dict[str, object] = {
        "name": row.run.id.lower(),
        "state": (state not in SORTS_FIRST, state),
        "progress": LAST if row.share is None else -row.share,
        "metric": _finite(trace.last if trace else None, 1 if worse_first else -1),
        "loss": _finite(row.loss, 1),
        "time left": _finite(row.left_s, 1),
    }
    if sort in keys:
        return keys[sort]
    found = value(row, sort)
    if isinstance(found, int | float) and not isinstance(found, bool):
        return (0, found) if found == found else NO_VALUE  # noqa: PLR0124 - NaN is last
    return NO_VALUE if found is None else (1, str(found))


def _finite(value: float | None, sign: int) -> float:
    return LAST if value is None or value != value else sign * value  # noqa: PLR0124 - NaN is last, whatever the sign


def shown(row: Row, name: str) -> str:
    """A field, setting or metric of a run as text."""
    from workbench.views.comparison import setting_text

    if (trace := row.metrics.get(name)) is not None:
        return metric_label(name).number(trace.last)
    found = value(row, name)
    if found is None:
        return ""
    return duration(found) if name == "left_s" else decimal(found) if name == "loss" else setting_text(found)
