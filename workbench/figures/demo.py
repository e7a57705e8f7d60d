"""Learning curves and paired gains of the demo, and gains of several recipes over a baseline."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.figures.style import FAINT, INK, Options, draw_interval, draw_seeds, finish, marker, new_figure, palette
from workbench.figures.training import draw_learning

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.views.curves import LearningView
    from workbench.views.results import PairedView

HALF_PAIR = 0.23  # offset of a model's column; metrics are 1 apart
BAR = 0.2
HEADROOM = 0.2  # as a share of the axes' height, for the text of the gain


def demo_figure(learning: "LearningView", pairs: Sequence["PairedView"]) -> "Figure":
    """The figure of ``workbench demo``: learning curves, and final metrics of two models paired by seed.

    Args:
        learning: one metric of the models over training.
        pairs: final metrics, all in one unit.
    """
    with new_figure(8.0, 3.4, w_pad=0.1) as figure:
        left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
        draw_learning(left, learning)
        draw_pairs(right, pairs)
    return figure


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
        mean = value_S.mean() * factor
        axes.plot([x - BAR / 2, x + BAR / 2], [mean, mean], color=colors[model], linewidth=2.4, zorder=3)
        dots: Options = {"marker": marker(model), "markersize": 5.5, "color": colors[model], "markeredgecolor": "white"}
        axes.plot([x] * len(value_S), value_S * factor, linestyle="", markeredgewidth=0.8, zorder=4, **dots)


def _columns(view: "PairedView") -> tuple[tuple[float, str], tuple[float, str]]:
    """The horizontal offset of each model's column, with the model's name."""
    return (-HALF_PAIR, view.baseline), (HALF_PAIR, view.treated)


def gains_figure(views: Mapping[str, Sequence["PairedView"]]) -> "Figure":
    """One panel for each metric; recipes sorted by their mean gain in the first metric, the best on top.

    Args:
        views: for each recipe the same metrics, paired with the same baseline.
    """
    recipes = sorted(views, key=lambda recipe: views[recipe][0].gain.mean)
    num_metrics = len(views[recipes[0]])
    with new_figure(8.0, 1.1 + 0.3 * len(recipes), w_pad=0.1) as figure:
        panels = figure.subplots(1, num_metrics, sharey=True, squeeze=False)[0]
        for place, axes in enumerate(panels):
            draw_gains(axes, {recipe: views[recipe][place] for recipe in recipes})
    return figure


def draw_gains(axes: "Axes", views: Mapping[str, "PairedView"]) -> None:
    """Mean gains with 95 % intervals over dots for the seeds; gray if the interval contains zero."""
    for row, view in enumerate(views.values()):
        color = INK if view.gain.clear else FAINT
        draw_interval(axes, row, view.gain, view.metric.factor, color=color, marker="D")
        draw_seeds(axes, row, view.gain.per_seed, view.metric.factor)
    axes.axvline(0, color=INK, linewidth=0.8)
    first = next(iter(views.values()))
    axes.set_yticks(range(len(views)), list(views))
    axes.set(xlabel=f"gain over {first.baseline} ({first.metric.difference_unit})", ylim=(-0.6, len(views) - 0.4))
    axes.set_title(first.metric.label)
    finish(axes, grid="x")
