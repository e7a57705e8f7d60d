"""Contents of a study's panes: header, report, curves, the table of cells and the table of runs."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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
from workbench.tui.rows import GAP, SCROLLBAR, Cell, Line
from workbench.tui.study.state import StudyState
from workbench.tui.text import NOTHING, TONES, columns_text
from workbench.views.metrics import MetricLabel
from workbench.views.study import Replicate, SearchPoint, StudyCell, history

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
        parts.append(f"best by validation: {visible(found.report.best)}")
    return text.append(" · ".join(part for part in parts if part))


def found_text(found: StudyState, width: int) -> Text:
    """The trials without a result, the queued trials, then the full report."""
    text = Text()
    if found.ended:
        text.append("trials without a result, and why\n", "bold")
        for one in found.ended:
            text.append(f"  {visible(one.cell)}: {visible(one.why)}\n")
        text.append("\n")
    if found.queued:
        text.append("queued trials\n", "bold")
        for values in found.queued:
            text.append(f"  {visible(values)}\n")
        text.append("\n")
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
TONE_OF_VERDICT = {"better": "success", "worse": "error"}

Tones = Callable[[str], str]  # the hex color of a theme's color name


@dataclass(frozen=True)
class Heading:
    """A column's heading and width in cells."""

    text: str
    width: int


def replicate_sign(one: Replicate) -> str:
    """A replicate's state as one character, see ``LEGEND``."""
    return SIGNS.get(one.state, FAILED)


def table_headings(found: StudyState, metric: MetricLabel, width: int) -> list[Heading]:
    """The columns that fit into ``width`` cells, the most important first; paper columns only if a paper is known."""
    table = found.report.table
    num_seeds = max((len(cell.replicates) for cell in table.cells), default=1)
    published = any(table.entry(cell, metric).paper is not None for cell in table.cells)
    differs = any(table.entry(cell, metric).gain for cell in table.cells)
    wanted = [
        Heading("seeds", max(5, min(12, num_seeds))),
        Heading("ours", 7),
        Heading("95 %", 16),
        *([Heading("paper", 6)] if published else []),
        *([Heading("differs", 8), Heading("95 % ", 16), Heading("verdict", 18)] if differs else []),
        *([Heading("paper's", 7)] if published and differs else []),
    ]
    names = [len(visible(cell.name)) + 2 for cell in table.cells]
    least = max(LEAST_NAME, min(MOST_NAME, max(names, default=0), width // 3))
    shown: list[Heading] = []
    room = width - least - GAP - 1 - SCROLLBAR
    for heading in wanted:
        room -= heading.width + GAP
        if room < 0:
            break
        shown.append(heading)
    return [Heading("cell", least), *shown]


def table_lines(found: StudyState, metric: MetricLabel, headings: list[Heading], tones: Tones) -> dict[str, Line]:
    """A line per cell, by the cell's name; for a search the best first."""
    return {
        cell.name: tuple(
            Cell(visible(text), heading.width, tones(tone) if tone else "")
            for heading in headings
            for text, tone in [_cell_texts(found, cell, metric)[heading.text]]
        )
        for cell in best_first(found.report.study, found.report.table.cells)
    }


def _cell_texts(found: StudyState, cell: StudyCell, metric: MetricLabel) -> Mapping[str, tuple[str, str]]:
    table = found.report.table
    entry, own = table.entry(cell, metric), texts(table, cell, metric)
    star = "★ " if cell.name == found.report.best else "  "
    why = next((one.why.partition(":")[0].partition(" ")[0] for one in found.ended if one.cell == cell.name), "")
    state = why if why and cell.state not in TAKES_COMMANDS else cell.state
    return {
        "cell": (star + cell.name, "accent" if star.strip() else ""),
        "seeds": ("".join(map(replicate_sign, cell.replicates)), state_color(cell.state)),
        "ours": (own["mean"] if entry.mean else NOTHING, ""),
        "95 %": (own["95 %"] if entry.mean else state, "text-muted"),
        "paper": (own["paper"], "text-muted"),
        "differs": ("baseline" if cell.name == table.baseline else own["difference"], ""),
        "95 % ": (own["95 % of difference"], "text-muted"),
        "verdict": (entry.verdict, TONE_OF_VERDICT.get(entry.verdict, "")),
        "paper's": (own["paper's difference"], "text-muted"),
    }


def run_headings(found: StudyState, metric: MetricLabel, width: int) -> list[Heading]:
    """The columns of the table of runs, as wide as their contents."""
    label = metric.title if width >= 100 else metric.label
    cells = found.report.table.cells
    states = [len(one.state_text) for cell in cells for one in cell.replicates]
    fixed = [
        Heading("seed", 4),
        Heading("state", min(24, max(8, *states, 0))),
        Heading(label[:18], min(18, len(label))),
    ]
    room = width - sum(one.width + GAP for one in fixed) - 2 * GAP - 1 - SCROLLBAR
    name = max(LEAST_NAME, min(max((len(visible(cell.name)) for cell in cells), default=0), room // 2))
    return [Heading("cell", name), *fixed, Heading("run, or reason", max(LEAST_NAME, room - name))]


def run_lines(found: StudyState, metric: MetricLabel, headings: list[Heading], tones: Tones) -> dict[str, Line]:
    """A line per run, by its id; unfinished runs first. Runs that have not started are left out."""
    why = {one.cell: one.why for one in found.ended}
    every = [(cell, one) for cell in found.report.table.cells for one in cell.replicates if one.run]
    lines = {}
    for cell, one in sorted(every, key=lambda pair: pair[1].is_finished):
        reason = one.reason or ("" if one.is_finished and cell.is_complete else why.get(cell.name, ""))
        texts = [
            (cell.name, ""),
            (str(one.seed), ""),
            (one.state_text, state_color(one.state)),
            (metric.number(one.metrics.get(metric.name)), ""),
            (reason or shortened(one.run, headings[-1].width), "" if reason else "text-muted"),
        ]
        lines[one.run] = tuple(
            Cell(visible(text), heading.width, tones(tone) if tone else "")
            for (text, tone), heading in zip(texts, headings, strict=True)
        )
    return lines


def state_color(state: str) -> str:
    """The theme's color name for a state; empty for the default color."""
    return "text-muted" if state in ("missing", "dropped") else TONES.get(state, "")


def heading_text(headings: list[Heading]) -> str:
    """The header line of a table."""
    return " " + "".join(heading.text[: heading.width].ljust(heading.width + GAP) for heading in headings)
