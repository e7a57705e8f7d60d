"""Curves over training steps: a run's weighted losses and metric, and a metric of several models over their seeds."""

import math
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.figures.style import BLUE, FAINT, INK, count_steps, finish, new_figure, palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.views.curves import Curves, LearningView
    from workbench.views.metrics import MetricLabel

MARKERS = "osD^vPX*"
MANY = 40  # lines with more points have no markers
NAME_HEIGHT = 0.06  # as a share of the axes' height
FAR = 1.5  # times the highest value of a model: a teacher above this is drawn beyond a break of the axis
BREAK, LEVEL = 0.84, 0.95  # where the models end, and where such a teacher is, as shares of the axes' height


def training_figure(curves: "Curves | None", metric: "MetricLabel", split: str, num_steps: int) -> "Figure":
    """Left, the weighted losses and their total on a logarithmic scale; right, the metric. Both span the full run.

    Args:
        curves: None before the first step.
        num_steps: planned for the run; 0 if unknown.
    """
    has_losses = bool(curves and len(curves.loss))
    measured = curves.metrics.get(split, {}).get(metric.name) if curves else None
    last = int(curves.loss.step[-1]) if curves and has_losses else 0
    with new_figure(8.6, 3.5, w_pad=0.1) as figure:
        left, right = figure.subplots(1, 2, width_ratios=[1.35, 1])
        if curves and has_losses:
            draw_losses(left, curves)
        if measured is not None:
            value_E = metric.factor * measured.value
            right.plot(measured.step, value_E, color=BLUE, marker="o", markersize=5, linewidth=2, clip_on=False)
            if measured.value.min() >= 0:
                right.set_ylim(0, None)
        for axes, is_empty in ((left, not has_losses), (right, measured is None)):
            if is_empty:
                axes.set_yticks([])
                axes.text(0.5, 0.5, "no data yet", transform=axes.transAxes, ha="center", va="center", color=FAINT)
            count_steps(axes, max(num_steps, last))
            finish(axes)
        left.set_title("Weighted losses")
        right.set_title(f"{metric.title}, {split}")
    return figure


def draw_losses(axes: "Axes", curves: "Curves") -> None:
    """One line for each loss, and their total in black if there are several; values of 0 and below are gaps."""
    from matplotlib.ticker import LogFormatter

    colors = palette(list(curves.weighted))
    lines = {name: (series, colors[name], 1.6) for name, series in curves.weighted.items()}
    if len(lines) > 1:
        lines = {"total": (curves.loss, INK, 2.2)} | lines
    drawn = 0
    for (name, (series, color, width)), marker in zip(lines.items(), cycle(MARKERS), strict=False):
        positive_N = np.where(series.value > 0, series.value, np.nan)  # the axis is logarithmic
        if np.isfinite(positive_N).any():
            points: dict[str, Any] = {"marker": marker, "markersize": 3.5} if len(series) <= MANY else {}
            axes.plot(series.step, positive_N, color=color, linewidth=width, label=name, clip_on=False, **points)
            drawn += 1
    if drawn:
        axes.set_yscale("log")
        for kind in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            kind(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
        axes.legend(loc="upper right", ncols=2 if drawn > 3 else 1, handlelength=2)
        axes.set_ylabel("weight × loss")


def learning_figure(view: "LearningView") -> "Figure":
    """Learning curves of the cells of a study: a thin line for each seed, the mean bold."""
    with new_figure(6.0, 3.4, w_pad=0.1) as figure:
        draw_learning(figure.subplots(), view)
    return figure


def draw_learning(axes: "Axes", view: "LearningView") -> None:
    """A thin line for each seed; the mean bold, with the model's name at its end; the teacher's level dashed.

    The axis is broken below a teacher that is far above all models, so that these fill the panel.
    """
    factor = view.metric.factor
    colors = palette(["teacher", *(curve.model for curve in view.models)])
    ends, highest = {}, 0.0
    for curve in view.models:
        color = colors[curve.model]
        for series in curve.seeds:
            axes.plot(series.step, series.value * factor, color=color, linewidth=0.8, alpha=0.5)
            highest = max(highest, float(series.value.max()) * factor)
        mean_E = curve.mean.value * factor
        axes.plot(curve.mean.step, mean_E, color=color, linewidth=2.4)
        ends[curve.model] = float(mean_E[-1])
    last = max(int(curve.mean.step[-1]) for curve in view.models)
    if view.teacher is not None:
        level = view.teacher * factor
        ends["teacher"] = _broken(axes, level, highest) if level > FAR * highest > 0 else level
        axes.plot([0, last], [ends["teacher"]] * 2, color=colors["teacher"], linewidth=1.2, dashes=(5, 3))
    axes.set(xlabel="training step", ylabel=view.metric.title, xlim=(0, last), ylim=(0, None))
    axes.set_title(f"While training ({view.split} pairs)")
    for model, height in _spaced(ends, NAME_HEIGHT * axes.get_ylim()[1]).items():
        axes.text(last, height, f" {model}", va="center", color=colors[model], weight="bold")
    finish(axes)


def _broken(axes: "Axes", level: float, highest: float) -> float:
    """Break the axis above ``highest``, mark the break, and return the height at which ``level`` is drawn and named."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator

    top = highest / BREAK
    height = top * LEVEL
    ticks = [tick for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(0, highest) if tick <= highest]
    axes.yaxis.set_major_locator(FixedLocator([*ticks, height]))
    axes.yaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks] + [f"{level:.0f}"]))
    mark: dict[str, Any] = {"marker": [(-1, -0.5), (1, 0.5)], "markersize": 9, "linestyle": "", "clip_on": False}
    middle = (BREAK + LEVEL) / 2
    for place in (middle - 0.012, middle + 0.012):
        axes.plot([0], [place], transform=axes.transAxes, color=INK, markeredgecolor=INK, zorder=5, **mark)
    axes.set_ylim(0, top)
    return height


def _spaced(heights: dict[str, float], gap: float) -> dict[str, float]:
    """The heights in ascending order, moved up to be at least ``gap`` apart so that labels do not overlap."""
    moved, lowest = {}, -math.inf
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        moved[name] = max(height, lowest)
        lowest = moved[name] + gap
    return moved
