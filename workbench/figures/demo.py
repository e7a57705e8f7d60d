"""Learning curves and paired gains of the demo, and gains of several recipes over a baseline."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.figures.style import FAINT, INK, finish, freeze_layout, marker, palette, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.views.curves import LearningView
    from workbench.views.results import PairedView

SIZE_IN = (8.0, 3.4)
HALF_PAIR = 0.23  # offset of a model's column; metrics are 1 apart
BAR = 0.2
NAME_HEIGHT = 0.06  # as a share of the axes' height
HEADROOM = 0.2  # as a share of the axes' height, for the text of the gain


def demo_figure(learning: "LearningView", pairs: Sequence["PairedView"]) -> "Figure":
    """The figure of ``workbench demo``: learning curves, and final metrics of two models paired by seed.

    Args:
        learning: one metric of the models over training.
        pairs: final metrics, all in one unit.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=SIZE_IN)
        figure.set_layout_engine("constrained", w_pad=0.1)
        left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
        draw_learning(left, learning)
        draw_pairs(right, pairs)
        freeze_layout(figure)
    return figure


def draw_learning(axes: "Axes", view: "LearningView") -> None:
    """A thin line for each seed; the mean bold, with the model's name at its end; the teacher's level dashed."""
    import seaborn

    factor = view.metric.factor
    colors = palette(["teacher", *(curve.model for curve in view.models)])
    ends = {}
    for curve in view.models:
        color = colors[curve.model]
        for series in curve.seeds:
            seaborn.lineplot(x=series.step, y=series.value * factor, ax=axes, color=color, linewidth=0.8, alpha=0.5)
        mean_E = curve.mean.value * factor
        seaborn.lineplot(x=curve.mean.step, y=mean_E, ax=axes, color=color, linewidth=2.4)
        ends[curve.model] = float(mean_E[-1])
    last = max(int(curve.mean.step[-1]) for curve in view.models)
    if view.teacher is not None:
        ends["teacher"] = view.teacher * factor
        level = [ends["teacher"]] * 2
        axes.plot([0, last], level, color=colors["teacher"], linewidth=1.2, dashes=(5, 3))
    axes.set(xlabel="training step", ylabel=view.metric.title, xlim=(0, last), ylim=(0, None))
    axes.set_title(f"While training ({view.split} pairs)")
    for model, height in _spaced(ends, NAME_HEIGHT * axes.get_ylim()[1]).items():
        axes.text(last, height, f" {model}", va="center", color=colors[model], weight="bold")
    finish(axes)


def _spaced(heights: dict[str, float], gap: float) -> dict[str, float]:
    """The heights in ascending order, moved up to be at least ``gap`` apart so that labels do not overlap."""
    moved, lowest = {}, -math.inf
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        moved[name] = max(height, lowest)
        lowest = moved[name] + gap
    return moved


def draw_pairs(axes: "Axes", views: Sequence["PairedView"]) -> None:
    """A line for each seed between the two models, a bar at each mean, and the gain as text above."""
    from matplotlib.ticker import MaxNLocator

    for place, view in enumerate(views):
        _draw_pair(axes, view, place)
    bottom, top = axes.get_ylim()
    axes.set(
        xlim=(-0.5, len(views) - 0.5),
        ylim=(bottom, top + HEADROOM * (top - bottom)),
        ylabel=f"after training ({views[0].metric.unit})" if views[0].metric.unit else "after training",
    )
    for place, view in enumerate(views):
        top_of_axes = axes.get_xaxis_transform()
        axes.text(place, 0.99, view.gain_text, transform=top_of_axes, ha="center", va="top", weight="bold")
        axes.text(place, 0.92, view.interval_text, transform=top_of_axes, ha="center", va="top", fontsize=8)
    ends = [(place + offset, model) for place, view in enumerate(views) for offset, model in _columns(view)]
    axes.set_xticks([x for x, _ in ends], [model for _, model in ends], minor=True)
    for (_, model), name in zip(ends, axes.get_xticklabels(minor=True), strict=True):
        name.set_color(palette([view.baseline, view.treated])[model])
    axes.set_xticks(range(len(views)), [f"\n{view.metric.label}" for view in views], linespacing=1.4)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_title("Gain, paired by seed")
    finish(axes)
    axes.tick_params(axis="x", which="major", length=0)


def _draw_pair(axes: "Axes", view: "PairedView", place: int) -> None:
    factor = view.metric.factor
    colors = palette([view.baseline, view.treated])
    ends = [place + offset for offset, _ in _columns(view)]
    for before, after in zip(view.baseline_S, view.treated_S, strict=True):
        axes.plot(ends, [before * factor, after * factor], color=FAINT, linewidth=0.9, zorder=2)
    for x, model, value_S in zip(ends, (view.baseline, view.treated), (view.baseline_S, view.treated_S), strict=True):
        color, mean = colors[model], value_S.mean() * factor
        axes.plot([x - BAR / 2, x + BAR / 2], [mean, mean], color=color, linewidth=2.4, zorder=3)
        axes.plot(
            [x] * len(value_S),
            value_S * factor,
            linestyle="",
            marker=marker(model),
            markersize=5.5,
            color=color,
            markeredgecolor="white",
            markeredgewidth=0.8,
            zorder=4,
        )


def _columns(view: "PairedView") -> tuple[tuple[float, str], tuple[float, str]]:
    """The horizontal offset of each model's column, with the model's name."""
    return (-HALF_PAIR, view.baseline), (HALF_PAIR, view.treated)


WIDTH_IN = 8.0
ROW_IN = 0.3
MARGIN_IN = 1.1


def gains_figure(views: Mapping[str, Sequence["PairedView"]]) -> "Figure":
    """One panel for each metric; recipes sorted by their mean gain in the first metric, the best on top.

    Args:
        views: for each recipe the same metrics, paired with the same baseline.
    """
    from matplotlib.figure import Figure

    recipes = sorted(views, key=lambda recipe: views[recipe][0].gain.mean)
    metrics = [view.metric for view in views[recipes[0]]]
    with style():
        figure = Figure(figsize=(WIDTH_IN, MARGIN_IN + ROW_IN * len(recipes)))
        figure.set_layout_engine("constrained", w_pad=0.1)
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for place, axes in enumerate(panels):
            draw_gains(axes, {recipe: views[recipe][place] for recipe in recipes})
        freeze_layout(figure)
    return figure


def draw_gains(axes: "Axes", views: Mapping[str, "PairedView"]) -> None:
    """Mean gains with 95 % intervals over dots for the seeds; gray if the interval contains zero."""
    for row, view in enumerate(views.values()):
        gain, factor = view.gain, view.metric.factor
        color = INK if gain.clear else FAINT
        axes.plot([gain.low * factor, gain.high * factor], [row, row], color=color, linewidth=1.6)
        seeds = [difference * factor for difference in gain.per_seed]
        axes.plot(seeds, [row] * len(seeds), linestyle="", marker="o", markersize=3.5, color=FAINT, zorder=3)
        axes.plot([gain.mean * factor], [row], marker="D", markersize=6, color=color, markeredgecolor="white", zorder=4)
    axes.axvline(0, color=INK, linewidth=0.8)
    first = next(iter(views.values()))
    unit = "points" if first.metric.unit == "%" else first.metric.unit
    axes.set_yticks(range(len(views)), list(views))
    axes.set(xlabel=f"gain over {first.baseline} ({unit})", ylim=(-0.6, len(views) - 0.4))
    axes.set_title(first.metric.label)
    finish(axes)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
