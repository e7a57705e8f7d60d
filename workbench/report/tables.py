"""A study's table as text for the terminal and Markdown, as CSV, and as LaTeX."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

from workbench.config.cells import as_text
from workbench.formatting import to_csv
from workbench.statistics.intervals import Estimate
from workbench.views.comparison import NOTHING
from workbench.views.metrics import MetricLabel
from workbench.views.study import StudyCell, StudyTable, paper_in_our_unit


@dataclass(frozen=True)
class Grid:
    """One metric's table as text: column headings, and one row per cell."""

    metric: MetricLabel
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def grid(table: StudyTable, metric: MetricLabel, cells: Sequence[StudyCell]) -> Grid:
    """The table of one metric, without empty columns."""
    rows = [_row(table, cell, metric) for cell in cells]
    columns = ("seeds", metric.title, "sd", "95 %", "difference", "95 % ", "verdict", "paper", "paper's difference")
    keep = [place for place in range(len(columns)) if place < 3 or any(row[place + 1] for row in rows)]
    return Grid(
        metric,
        (table.setting if table.levels else "cell", *(columns[place].strip() for place in keep)),
        tuple((row[0], *(row[place + 1] for place in keep)) for row in rows),
    )


def _row(table: StudyTable, cell: StudyCell, metric: MetricLabel) -> tuple[str, ...]:
    entry = table.entry(cell, metric)
    seeds = f"{len(entry.mean.per_seed) if entry.mean else 0} of {len(cell.replicates)}"
    mean = metric.number(entry.mean.mean) if entry.mean else _nothing(cell)
    gained = metric.number(entry.gain.mean, signed=True) if entry.gain else ""
    paper = "" if entry.paper is None else paper_in_our_unit(metric, entry.paper)
    theirs = "" if entry.paper_gain is None else metric.number(entry.paper_gain / metric.factor, signed=True)
    return (
        cell.name,
        seeds,
        mean,
        metric.number(sd) if (sd := spread(entry.mean)) is not None else "",
        interval(metric, entry.mean),
        gained,
        interval(metric, entry.gain, signed=True),
        entry.verdict,
        paper,
        theirs,
    )


def _nothing(cell: StudyCell) -> str:
    """Placeholder for a missing value: the cell's state, or a dash if the metric does not apply."""
    return NOTHING if cell.state == "finished" else cell.state


def spread(found: Estimate | None) -> float | None:
    """Standard deviation over seeds; None for fewer than two."""
    return stdev(found.per_seed) if found and len(found.per_seed) > 1 else None


def interval(metric: MetricLabel, found: Estimate | None, *, signed: bool = False) -> str:
    """The bounds as text, see :meth:`MetricLabel.interval`; empty if unknown."""
    return "" if found is None else metric.interval(found.low, found.high, signed=signed)


CELLS_HEAD = (
    "cell", "metric", "unit", "num_seeds", "mean", "sd", "low", "high", "difference", "difference_low",
    "difference_high", "p_holm", "verdict", "paper", "paper_difference", "state",
)  # fmt: skip
RUNS_HEAD = ("run", "cell", "trial", "seed", "state", "step", "num_steps", "reason")


def cells_csv(table: StudyTable) -> str:
    """One line per cell and metric, in the given unit; unknown values are empty."""
    lines: list[list[object]] = []
    for cell in table.cells:
        for metric in table.metrics:
            entry = table.entry(cell, metric)
            mean, gain = entry.mean, entry.gain
            ours = (mean.mean, spread(mean), mean.low, mean.high) if mean else (None,) * 4
            gained = (gain.mean, gain.low, gain.high) if gain else (None,) * 3
            scaled = [
                "" if value is None or not math.isfinite(value) else f"{value * metric.factor:.6g}"
                for value in (*ours, *gained)
            ]
            num_seeds = len(mean.per_seed) if mean else 0
            p_value = "" if entry.p_value is None else f"{entry.p_value:.4g}"
            paper = (_plain(entry.paper), _plain(entry.paper_gain))
            named = (cell.name, metric.name, metric.unit, num_seeds)
            lines.append([*named, *scaled, p_value, entry.verdict, *paper, cell.state])
    return to_csv(CELLS_HEAD, lines)


def runs_csv(table: StudyTable) -> str:
    """One line per run, with its settings and metrics in the units of the log."""
    settings = list(dict.fromkeys(key for cell in table.cells for key in cell.values))
    names = sorted({name for cell in table.cells for one in cell.replicates for name in one.metrics})
    lines: list[list[object]] = []
    for cell in table.cells:
        values = [as_text(cell.values[key]) if key in cell.values else "" for key in settings]
        for one in cell.replicates:
            about = (one.run, cell.name, cell.trial, one.seed, one.state, one.step, one.num_steps, one.reason)
            lines.append([*about, *values, *(one.metrics.get(name, "") for name in names)])
    return to_csv((*RUNS_HEAD, *settings, *names), lines)


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
