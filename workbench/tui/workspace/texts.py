"""The text of a comparison: settings that differ, metrics with their differences, and repeats paired by seed."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from workbench.errors import visible
from workbench.tui.rows import clipped
from workbench.tui.text import COLUMN_GAP, columns_text, shortest
from workbench.views.comparison import Comparison, MetricRow, setting_text
from workbench.views.results import PairedView

MOST_CELL = 32  # columns


def settings_text(comparison: Comparison, letters: Sequence[str], width: int) -> Text:
    """The settings that differ between runs, then those that are equal."""
    text = Text()
    differing = comparison.differing
    text.append("settings that differ\n" if differing else "no setting differs\n", "bold")
    short = shortest([one.name for one in differing])
    rows = [[short[one.name], *map(setting_text, one.values)] for one in differing]
    text.append(either_way(["", *letters], rows, width))
    text.append("\nequal settings\n", "bold")
    same = [[one.name, setting_text(one.values[0])] for one in comparison.settings if not one.differs]
    return text.append(columns_text(["", "all"], same, width))


def either_way(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Text:
    """A table with a column for each run; where that is too wide, a row for each run, in as many tables as it takes."""
    rows = [
        [clipped(cell, MOST_CELL).rstrip() for cell in row] for row in rows
    ]  # a list of stages would fill the screen
    if not rows or table_width([headings, *rows]) <= width:
        return columns_text(headings, rows, width)
    text = Text()
    columns = [list(row) for row in rows]  # of the other table: a name, then a value for each run
    while columns:
        fitting = 1
        while fitting < len(columns) and table_width([headings, *columns[: fitting + 1]], is_turned=True) <= width:
            fitting += 1
        names, *values = zip(*columns[:fitting], strict=True)
        runs = [[letter, *own] for letter, own in zip(headings[1:], values, strict=True)]
        text.append(columns_text(["", *names], runs, width))
        columns = columns[fitting:]
        text.append("\n" if columns else "")
    return text


def table_width(rows: Sequence[Sequence[str]], *, is_turned: bool = False) -> int:
    """The columns that a table of these rows needs; ``is_turned``: of these columns."""
    columns = rows if is_turned else list(zip(*rows, strict=True))
    return sum(max(map(cell_len, column)) + COLUMN_GAP for column in columns)


def differences_text(
    comparison: Comparison, letters: Sequence[str], pairings: Sequence[Sequence[PairedView]], width: int
) -> Text:
    """Each run's metrics with the differences to the first run; then groups of runs paired by seed."""
    text = Text()
    for split in comparison.splits:
        steps = sorted({step for step in split.steps if step is not None})
        text.append(f"{split.split} after step {', '.join(f'{step:,}' for step in steps)}\n", "bold")
        text.append(either_way(["", *letters], [_metric_cells(row) for row in split.rows], width))
        if not split.same_pairs:
            text.append("evaluated on different pairs: the differences include those of the data\n", "italic")
        text.append("\n")
    if not comparison.splits:
        text.append("no run has been evaluated yet\n", "italic")
    for views in pairings:
        text.append(f"paired by seed: {visible(views[0].treated)} against {visible(views[0].baseline)}\n", "bold")
        for view in views:
            seeds = f"{len(view.seed_S)} seed{'s' if len(view.seed_S) > 1 else ''}"
            interval = view.interval_text if len(view.seed_S) > 1 else "no interval from one seed"
            text.append(f"  {view.metric.label:24} {view.gain_text:>14}   {interval}, {seeds}\n")
        text.append("\n")
    return text.append(
        "in parentheses: the difference to the first run ± its standard error for independent pairs\n", "italic"
    )


def _metric_cells(row: MetricRow) -> list[str]:
    found = [row.metric.title]
    for value, difference, error in zip(row.values, row.differences, row.difference_errors, strict=True):
        own = row.metric.number(value)
        if len(found) > 1 and difference is not None:
            spread = f" ± {row.metric.number(error)}" if error is not None else ""
            own += f" ({row.metric.number(difference, signed=True)}{spread})"
        found.append(own)
    return found
