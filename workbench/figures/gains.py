"""What several recipes add to a baseline: a row a recipe, a dot a seed, the mean and its interval."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.figures.style import FAINT, INK, finish, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.views.paired import PairedView

WIDTH_IN = 8.0
ROW_IN = 0.3
MARGIN_IN = 1.1


def gains_figure(views: Mapping[str, Sequence["PairedView"]]) -> "Figure":
    """A panel a metric; recipes in the order of their mean gain in the first, the best on top.

    Args:
        views: for every recipe the same metrics, each paired with the same baseline.
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
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once: another pass at every save would move things a little
    return figure


def draw_gains(axes: "Axes", views: Mapping[str, "PairedView"]) -> None:
    """The mean gain of each recipe with its 95 % interval over faint dots, one a seed; grey where it holds zero."""
    for row, view in enumerate(views.values()):
        gain, factor = view.gain, view.metric.factor
        colour = INK if gain.clear else FAINT
        axes.plot([gain.low * factor, gain.high * factor], [row, row], color=colour, linewidth=1.6)
        seeds = [difference * factor for difference in gain.per_seed]
        axes.plot(seeds, [row] * len(seeds), linestyle="", marker="o", markersize=3.5, color=FAINT, zorder=3)
        axes.plot(
            [gain.mean * factor], [row], marker="D", markersize=6, color=colour, markeredgecolor="white", zorder=4
        )
    axes.axvline(0, color=INK, linewidth=0.8)
    first = next(iter(views.values()))
    unit = "points" if first.metric.unit == "%" else first.metric.unit
    axes.set_yticks(range(len(views)), list(views))
    axes.set(xlabel=f"gain over {first.baseline} ({unit})", ylim=(-0.6, len(views) - 0.4))
    axes.set_title(first.metric.label)
    finish(axes)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
