"""Contents of a study's panes: header, report, curves, the table of cells and the table of runs."""

import re
from collections.abc import Sequence

import numpy as np
from rich.text import Text

from workbench.errors import visible
from workbench.figures.style import palette
from workbench.formatting import shortened
from workbench.results.analysis import MOST_CURVES
from workbench.results.export import texts
from workbench.results.markdown import markdown, unescape
from workbench.results.table import best_first
from workbench.results.words import progress
from workbench.runs.liveness import TAKES_COMMANDS
from workbench.tui.charts.plot import INK, Curve, Plot
from workbench.tui.rows import GAP, SCROLLBAR, Cell, Column, Line
from workbench.tui.study.state import StudyState
from workbench.tui.text import COLORS, NOTHING, columns_text
from workbench.views.metrics import MetricLabel
from workbench.views.study import SearchPoint, StudyCell, history

TABLE_BAR = re.compile(r"(?<!\\)\|")
NO_HISTORY = f"no curves: they need two evaluations of every finished run, and no more than {MOST_CURVES} cells"


def head_text(found: StudyState | None, name: str, problem: str, metric: MetricLabel | None) -> Text:
    """Two lines: the study and its question; the metric, the progress, the time left and the best cell."""
    text = Text()
    text.append(visible(name), "bold")
    if found is None:
        return text.append(f"  {visible(problem)}" if problem else "  loading")
    table = found.report.table
    text.append(f"  {visible(table.question)}\n")
    parts = [metric.title if metric else "", progress(table.cells), found.left_text, visible(problem)]
    if found.queued:
        parts.append(f"{len(found.queued)} queued")
    if found.report.best:
        parts.append(f"best by validation: cell {visible(found.report.best)}")
    return text.append(" · ".join(part for part in parts if part))


def found_text(found: StudyState, width: int) -> Text:
    """The trials without a result, the queued trials, then the full report."""
    text = Text()
    ended = [f"{cell}: {why}" for cell, why in found.ended.items()]
    for title, lines in (("trials without a result, and why", ended), ("queued trials", found.queued)):
        if lines:
            text.append(f"{title}\n", "bold")
            text.append("".join(f"  {visible(line)}\n" for line in lines) + "\n")
    return text.append(report_text(markdown(found.report), width))


def report_text(report: str, width: int) -> Text:
    """A report's Markdown for the terminal: headings in bold, tables in aligned columns."""
    text = Text()
    rows: list[list[str]] = []
    for line in [*report.splitlines()[1:], ""]:
        if line.startswith("|"):
            cells = [unescape(cell.strip()) for cell in TABLE_BAR.split(line)[1:-1]]
            rows += [] if set("".join(cells)) <= set("-: ") and rows else [cells]
            continue
        if rows:
            text.append(columns_text(rows[0], rows[1:], width))
            rows = []
        if line.startswith("#"):
            text.append(unescape(line.lstrip("# ")) + "\n", "bold")
        elif line != "```":
            text.append(unescape(line.replace("**", "")) + "\n")
    return text


def history_plots(found: StudyState, metric: MetricLabel | None) -> list[Plot]:
    """A search's trials with the best so far; for a grid, the mean learning curve of every cell."""
    report, view = found.report, found.learning
    if metric is None:
        return [Plot("history", empty=NO_HISTORY)]
    if report.tried:
        worse = metric.higher_is_better is False
        tried = history(report.table.cells, metric.name, "minimize" if worse else "maximize")
        return [_tried_plot(tried, metric)]
    if view is None or found.learning_metric != metric.name:
        why = NO_HISTORY if found.learning_metric == metric.name else "loading"
        return [Plot(f"{metric.label} on validation", empty=why)]
    colors = palette([model.model for model in view.models])
    curves = []
    for model in view.models:
        step = model.mean.step.astype(np.float64)
        curves.append(Curve(model.model, colors[model.model], step, step, model.mean.value * view.metric.factor))
    return [Plot(f"{view.metric.label} on {view.split}, mean over seeds", tuple(curves), view.metric.unit)]


def _tried_plot(tried: Sequence[SearchPoint], metric: MetricLabel) -> Plot:
    found = [one for one in tried if one.value is not None]
    number = np.array([one.trial for one in found], dtype=np.float64)

    def one_curve(name: str, color: str, values: list[float | None]) -> Curve:
        value = np.array([np.nan if one is None else one for one in values], dtype=np.float64)
        return Curve(name, color, number, number, value * metric.factor)

    colors = palette(["best so far", "tried"])
    curves = (
        one_curve("best so far", colors["best so far"], [one.best for one in found]),
        one_curve("tried", INK, [one.value for one in found]),
    )
    return Plot(f"{metric.label} on validation, trial by trial", curves, metric.unit, x_name="trial")


SIGNS = dict.fromkeys(("new", "running", "paused", "silent"), "▸") | dict.fromkeys(("stopped", "interrupted"), "○")
SIGNS |= {"finished": "●", "missing": "·", "dropped": "–"}
FAILED = "×"
LEGEND = "● finished  ▸ training  ○ stopped  × failed  – dropped  · planned  ★ best"
LEAST_NAME, MOST_NAME = 10, 40
COLOR_OF_VERDICT = {"better": "success", "worse": "error"}


def cell_columns(found: StudyState, metric: MetricLabel, width: int) -> list[Column]:
    """The columns that fit into ``width`` cells, the most important first; paper columns only if a paper is known."""
    table = found.report.table
    num_seeds = max((len(cell.replicates) for cell in table.cells), default=1)
    published = any(table.entry(cell, metric).paper is not None for cell in table.cells)
    differs = any(table.entry(cell, metric).gain for cell in table.cells)
    verdict = max([len("verdict"), *(len(table.entry(cell, metric).verdict_text) for cell in table.cells)])
    wanted = [
        Column("seeds", "seeds", max(5, min(12, num_seeds))),
        Column("mean", "ours", 7, is_number=True),
        *(
            [Column("difference", "differs", 8, is_number=True), Column("verdict", "verdict", verdict)]
            if differs
            else []
        ),
        *([Column("paper", "paper", 6, is_number=True)] if published else []),
        *([Column("95 % of difference", "95 %", 16)] if differs else []),
        Column("95 %", "95 % of ours", 16),
        *([Column("paper's difference", "paper's", 8, is_number=True)] if published and differs else []),
    ]
    names = [len(visible(cell.name)) + 2 for cell in table.cells]
    least = max(LEAST_NAME, min(MOST_NAME, max(names, default=0), width // 3))
    shown = [Column("cell", "cell", least)]
    room = width - least - GAP - 1 - SCROLLBAR
    for column in wanted:
        room -= column.width + GAP
        if room < 0:
            break
        shown.append(column)
    return shown


def cell_lines(found: StudyState, metric: MetricLabel, shown: Sequence[Column]) -> dict[str, Line]:
    """A line per cell, by the cell's name; for a search the best first."""
    lines = {}
    for cell in best_first(found.report.study, found.report.table.cells):
        cells = _cells(found, cell, metric)
        lines[cell.name] = tuple(cells[column.key] for column in shown)
    return lines


def _cells(found: StudyState, cell: StudyCell, metric: MetricLabel) -> dict[str, Cell]:
    table = found.report.table
    entry, own = table.entry(cell, metric), texts(table, cell, metric)
    is_best = cell.name == found.report.best
    why = found.ended.get(cell.name, "").partition(":")[0].partition(" ")[0]  # its first word
    state = why if why and cell.state not in TAKES_COMMANDS else cell.state
    signs = "".join(SIGNS.get(one.state, FAILED) for one in cell.replicates)
    return {
        "cell": Cell(("★ " if is_best else "  ") + cell.name, "accent" if is_best else ""),
        "seeds": Cell(signs, state_color(cell.state)),
        "mean": Cell(own["mean"] if entry.mean else NOTHING),
        "95 %": Cell(own["95 %"] if entry.mean else state, "text-muted"),
        "paper": Cell(own["paper"], "text-muted"),
        "difference": Cell("baseline" if cell.name == table.baseline else own["difference"]),
        "95 % of difference": Cell(own["95 % of difference"], "text-muted"),
        "verdict": Cell(entry.verdict_text, COLOR_OF_VERDICT.get(entry.verdict, "")) if entry.mean else Cell(state),
        "paper's difference": Cell(own["paper's difference"], "text-muted"),
    }


def run_columns(found: StudyState, metric: MetricLabel, width: int) -> list[Column]:
    """The columns of the table of runs, as wide as their contents."""
    label = metric.title if width >= 100 else metric.label
    cells = found.report.table.cells
    states = [len(one.state_text) for cell in cells for one in cell.replicates]
    fixed = [
        Column("seed", "seed", 5, is_number=True),
        Column("state", "state", min(24, max(8, *states, 0))),
        Column("metric", label[:18], min(18, len(label)), is_number=True),
    ]
    room = width - sum(one.width + GAP for one in fixed) - 2 * GAP - 1 - SCROLLBAR
    name = max(LEAST_NAME, min(max((len(visible(cell.name)) for cell in cells), default=0), room // 2))
    run = Column("run", "run, or reason", max(LEAST_NAME, room - name))
    return [Column("cell", "cell", name), *fixed, run]


def run_lines(found: StudyState, metric: MetricLabel, shown: Sequence[Column]) -> dict[str, Line]:
    """A line per run, by its id; unfinished runs first. Runs that have not started are left out."""
    every = [(cell, one) for cell in found.report.table.cells for one in cell.replicates if one.run]
    lines: dict[str, Line] = {}
    for cell, one in sorted(every, key=lambda pair: pair[1].is_finished):
        reason = one.reason or ("" if one.is_finished and cell.is_complete else found.ended.get(cell.name, ""))
        lines[one.run] = (
            Cell(cell.name),
            Cell(str(one.seed)),
            Cell(one.state_text, state_color(one.state)),
            Cell(metric.number(one.metrics.get(metric.name))),
            Cell(reason) if reason else Cell(shortened(one.run, shown[-1].width), "text-muted"),
        )
    return lines


def state_color(state: str) -> str:
    """The theme's color name for a state; empty for the default color."""
    return "text-muted" if state in ("missing", "dropped") else COLORS.get(state, "")
