"""What a study has found and how it is going, in words, and its curves."""

import re
from collections.abc import Sequence

import numpy as np
from rich.text import Text

from workbench.figures.style import palette
from workbench.report.markdown import markdown, unescape
from workbench.report.over_time import MOST_CURVES
from workbench.report.words import progress
from workbench.terminal import visible
from workbench.tui.charts.plot import INK, Curve, Plot
from workbench.tui.compare.screen import columns_text
from workbench.tui.study.studied import Studied
from workbench.views.metrics import MetricLabel
from workbench.views.study import Tried, history

TABLE_BAR = re.compile(r"(?<!\\)\|")
NO_HISTORY = f"no curves: they need two evaluations of every finished run, and no more than {MOST_CURVES} cells"


def head_text(found: Studied | None, name: str, problem: str, metric: MetricLabel | None) -> Text:
    """The study, its question, how far it is, and what is left."""
    text = Text()
    text.append(visible(name), "bold")
    if found is None:
        return text.append(f"  {visible(problem)}" if problem else "  being read")
    table = found.report.table
    text.append(f"  {visible(table.question)}\n")
    parts = [metric.title if metric else "", progress(table.cells), found.left_text, visible(problem)]
    if found.queued:
        parts.append(f"{len(found.queued)} queued")
    if found.report.best:
        parts.append(f"best by validation: {visible(found.report.best)}")
    return text.append(" · ".join(part for part in parts if part))


def found_text(found: Studied, width: int) -> Text:
    """The whole report, and before it what has been given up."""
    text = Text()
    if found.ended:
        text.append("trials without a result, and why\n", "bold")
        for one in found.ended:
            text.append(f"  {visible(one.cell)}: {visible(one.why)}\n")
        text.append("\n")
    if found.queued:
        text.append("queued to be tried next\n", "bold")
        for values in found.queued:
            text.append(f"  {visible(values)}\n")
        text.append("\n")
    return text.append(as_words(markdown(found.report), width))


def as_words(report: str, width: int) -> Text:
    """A report's Markdown as a person reads it: headings bold, tables in columns."""
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


def history_plots(found: Studied, metric: MetricLabel | None) -> list[Plot]:
    """A search's trials with the best so far; of other studies every cell's mean learning curve."""
    report, view = found.report, found.learning
    if metric is None:
        return [Plot("history", empty=NO_HISTORY)]
    if report.tried:
        worse = metric.higher_is_better is False
        tried = history(report.table.cells, metric.name, "minimize" if worse else "maximize")
        return [_tried_plot(tried, metric)]
    if view is None or found.learning_metric != metric.name:
        why = NO_HISTORY if found.learning_metric == metric.name else "being read"
        return [Plot(f"{metric.label} on validation", empty=why)]
    colours = palette([model.model for model in view.models])
    curves = []
    for model in view.models:
        step = model.mean.step.astype(np.float64)
        curves.append(Curve(model.model, colours[model.model], step, step, model.mean.value * view.metric.factor))
    return [Plot(f"{view.metric.label} on {view.split}, mean over seeds", tuple(curves), view.metric.unit)]


def _tried_plot(tried: Sequence[Tried], metric: MetricLabel) -> Plot:
    found = [one for one in tried if one.value is not None]
    number = np.array([one.trial for one in found], dtype=np.float64)

    def one_curve(name: str, colour: str, values: list[float | None]) -> Curve:
        value = np.array([np.nan if one is None else one for one in values], dtype=np.float64)
        return Curve(name, colour, number, number, value * metric.factor)

    colours = palette(["best so far", "tried"])
    curves = (
        one_curve("best so far", colours["best so far"], [one.best for one in found]),
        one_curve("tried", INK, [one.value for one in found]),
    )
    return Plot(f"{metric.label} on validation, trial by trial", curves, metric.unit, x_name="trial")
