"""Figures of a search: history, effects, importance, Pareto front, parallel coordinates and early ranking."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from workbench.config.cells import as_text
from workbench.figures.style import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    Options,
    annotate,
    count_steps,
    draw_interval,
    finish,
    mark_level,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from workbench.statistics.rank_agreement import Agreement
    from workbench.statistics.verdict import Effect
    from workbench.views.metrics import MetricLabel
    from workbench.views.study import Parallel, ParallelAxis, Point, SearchPoint

DOTS: Options = {"marker": "o", "color": BLUE, "linestyle": ""}
WITHOUT_SPLIT = ("num_params", "elapsed_s")


def history_figure(tried: Sequence["SearchPoint"], metric: "MetricLabel") -> "Figure":
    """Each configuration's validation mean, hollow if seeds are missing, and the best so far as a line.

    Raises:
        ValueError: no configuration has a value yet.
    """
    from matplotlib.ticker import MaxNLocator

    known = [(one, metric.factor * one.value) for one in tried if one.value is not None]
    if not known:
        raise ValueError("nothing to draw: no configuration has a finished run")
    most = max(one.num_seeds for one, _ in known)
    with new_figure(5.4, 3.1) as figure:
        axes = figure.subplots()
        for one, value in known:
            axes.plot(
                one.trial, value, **DOTS, markersize=5, markerfacecolor=BLUE if one.num_seeds == most else "white"
            )
        steps = [(one.trial, metric.factor * one.best) for one in tried if one.best is not None]
        if steps:
            axes.step(*zip(*steps, strict=True), where="post", color=ORANGE, linewidth=1.6, zorder=1)
        diverged = [one.trial for one in tried if one.state == "diverged"]
        cross: Options = {"marker": "x", "color": FAINT, "linestyle": "", "clip_on": False}
        axes.plot(diverged, [0.02] * len(diverged), transform=axes.get_xaxis_transform(), **cross)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="trial", ylabel=_measured(metric, "validation"))
        axes.set_title(f"Filled: {most} seeds; hollow: fewer; x: diverged; line: best so far")
        finish(axes)
    return figure


def effects_figure(effects: Sequence["Effect"], metric: "MetricLabel") -> "Figure":
    """Main effects: one panel for each setting, each value's effect averaged over the other settings."""
    settings = list(dict.fromkeys(effect.setting for effect in effects))
    with new_figure(0.7 + 2.6 * len(settings), 2.9, w_pad=0.08) as figure:
        panels = figure.subplots(1, len(settings), sharey=True, squeeze=False)[0]
        for axes, setting in zip(panels, settings, strict=True):
            mine = [effect for effect in effects if effect.setting == setting]
            for place, effect in enumerate(mine):
                draw_interval(axes, place, effect.gain, metric.factor, upright=True)
            axes.axhline(0, color=INK, linewidth=0.8)
            axes.set_xticks(range(len(mine)), [as_text(effect.level) for effect in mine])
            axes.set(xlabel=setting, xlim=(-0.5, len(mine) - 0.5))
            finish(axes)
        unit = f" ({metric.difference_unit})" if metric.unit else ""
        panels[0].set_ylabel(f"{metric.label}: effect{unit}")
        panels[0].set_title("Main effects, averaged over the other settings")
    return figure


def importance_figure(importance: Mapping[str, float], note: str) -> "Figure":
    """One bar for each setting, the largest on top; ``note`` is the title."""
    settings = sorted(importance, key=lambda setting: importance[setting])
    with new_figure(5.4, 0.9 + 0.3 * len(settings)) as figure:
        axes = figure.subplots()
        axes.barh(settings, [100 * importance[setting] for setting in settings], color=BLUE, height=0.6)
        axes.set(xlabel="hyperparameter importance (%)")
        axes.set_title(note)
        finish(axes, grid="x")
    return figure


def pareto_figure(points: Sequence["Point"], metrics: Sequence["MetricLabel"], split: str = "validation") -> "Figure":
    """The first objective over the second on ``split``; the Pareto front is solid, connected and labeled.

    Raises:
        ValueError: no cell has all objectives yet.
    """
    if not points:
        raise ValueError("nothing to draw: no cell has all objectives yet")
    upward, across = metrics[:2]
    with new_figure(4.6, 3.4) as figure:
        axes = figure.subplots()
        front = []
        for point in points:
            at = (across.factor * point.values[1], upward.factor * point.values[0])
            face = BLUE if point.on_front else "white"
            axes.plot(*at, **DOTS, markersize=5.5, markerfacecolor=face, zorder=3)
            if point.on_front:
                front.append(at)
                annotate(axes, point.cell, at, (5, -3), fontsize=7.5, va="top")
        axes.plot(*zip(*sorted(front), strict=True), color=ORANGE, linewidth=1.2)
        axes.margins(x=0.12, y=0.1)
        axes.set(xlabel=_measured(across, split), ylabel=_measured(upward, split))
        axes.set_title("Solid: Pareto front")
        finish(axes)
    return figure


def _measured(metric: "MetricLabel", split: str) -> str:
    """A metric's title with its split, if it is measured on one."""
    return metric.title if metric.name in WITHOUT_SPLIT else f"{split} {metric.title}"


AXIS_IN, MOST_IN = 1.6, 9.6
LETTER_IN, LABEL_WIDTH = 0.07, 16
SHADES, FADED = "viridis", "#DADADA"
MOST_WORDS = 12


def parallel_figure(view: "Parallel", kept_N: "NDArray[np.bool_]", color_by: str) -> "Figure":
    """Parallel coordinates: one line for each cell, colored by one axis; lines outside the brushes are pale.

    Args:
        kept_N: the lines within the brushes.
        color_by: the name of the axis.
    """
    num_axes = len(view.axes)
    by = next(axis for axis in view.axes if axis.name == color_by)
    width = min(MOST_IN, 1.2 + AXIS_IN * num_axes)
    with new_figure(width, 3.7, is_placed=True) as figure:
        longest = max(map(len, view.axes[0].words), default=0)
        figure.subplots_adjust((0.6 + LETTER_IN * longest) / width, 0.2, 1 - 0.6 / width, 0.84)
        axes = figure.subplots()
        _draw_lines(axes, view, by, kept_N)
        for place, axis in enumerate(view.axes):
            _draw_axis(axes, axis, place)
        axes.set_xticks(range(num_axes), [fill(axis.label, LABEL_WIDTH, break_long_words=False) for axis in view.axes])
        axes.tick_params(axis="x", length=0, pad=14)
        axes.set(xlim=(-0.05, num_axes - 0.95), ylim=(0, 1), yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_title(f"{int(kept_N.sum())} of {len(view.lines)} cells; color: {by.label}", pad=18)
    return figure


def _draw_lines(axes: "Axes", view: "Parallel", by: "ParallelAxis", kept_N: "NDArray[np.bool_]") -> None:
    import seaborn

    shades = seaborn.color_palette(SHADES, as_cmap=True)
    height_AN = np.stack([axis.height_N for axis in view.axes])
    for line in np.argsort(kept_N, kind="stable"):
        height = by.height_N[line]
        # 0.92: the brightest end of the colormap is too pale for a line on white.
        color = shades(0.92 * (height if np.isfinite(height) else 0)) if kept_N[line] else FADED
        width, zorder = (2.0, 3) if kept_N[line] else (1.0, 2)
        options: Options = {
            "color": color,
            "linewidth": width,
            "zorder": zorder,
            "marker": "o",
            "markersize": 4,
            "clip_on": False,
        }
        axes.plot(range(len(view.axes)), height_AN[:, line], **options)


def _draw_axis(axes: "Axes", axis: "ParallelAxis", place: int) -> None:
    """One vertical axis with its categories, or with its limits at both ends."""
    axes.axvline(place, color=INK, linewidth=0.9, zorder=1)
    low, high = axis.limits
    if axis.words:
        for number, word in enumerate(axis.words[:MOST_WORDS]):
            side, align = (-0.04, "right") if place == 0 else (0.04, "left")
            axes.text(place + side, (number - low) / (high - low), word, fontsize=7.5, ha=align, va="center")
    else:
        axes.text(place, 1.04, f"{high:.4g}", fontsize=7.5, ha="center")
        axes.text(place, -0.04, f"{low:.4g}", fontsize=7.5, ha="center", va="top")


def forecast_figure(forecast: Mapping[int, "Agreement"]) -> "Figure":
    """Kendall's τ between the ranking of the cells at each evaluated step and the final ranking.

    Raises:
        ValueError: there are no evaluations before the last step, or fewer than three cells.
    """
    if not forecast:
        raise ValueError("no forecast: it needs at least three cells, and evaluations before the last step")
    with new_figure(5.8, 3.2) as figure:
        axes = figure.subplots()
        steps = sorted(forecast)
        axes.plot(steps, [forecast[step].tau for step in steps], color=BLUE, linewidth=1.8, marker="o", clip_on=False)
        mark_level(axes, 1)
        axes.axhline(0, color=FAINT, linewidth=0.9)
        axes.set(ylabel="Kendall's τ with the final ranking", ylim=(-1, 1.08))
        count_steps(axes, steps[-1])
        axes.set_title("Rank correlation with the final ranking of the cells")
        finish(axes)
    return figure
