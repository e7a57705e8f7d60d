"""InfoNCE bounds on mutual information: by the number of negatives N, with their limit log N, and over training."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.figures.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PINK,
    Options,
    annotate,
    count_steps,
    finish,
    mark_step,
    move_step,
    new_figure,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from workbench.views.information import InformationBounds, InformationOverTime

TEACHER, OTHERS = INK, (BLUE, ORANGE, GREEN, PINK)
MARKERS = "osD^v"
LIMIT: Options = {"linewidth": 1.1, "linestyle": (0, (4, 2)), "zorder": 2}
BEYOND: Options = {"facecolor": "#F5F5F5", "edgecolor": "#D2D2D2", "hatch": "////", "linewidth": 0, "zorder": 0}
HOLLOW: Options = {"markersize": 8, "markerfacecolor": "white", "markeredgewidth": 1.6}
SATURATED = "more negatives help little beyond this"
KEY: Options = {"loc": "lower right", "handlelength": 2.2, "fontsize": 8}
PAPER: Options = {
    "facecolor": "white",
    "edgecolor": "none",
    "pad": 1.0,
    "alpha": 0.85,
}  # behind text on hatching
CURVE = "curve"  # gid of what changes with the step
ROOM, BELOW = 1.12, 0.06  # margins: a factor on the x axis; a share of the height below 0
BAR_SHIFT = 1.05  # horizontal factor between the error bars of one batch size
NATS = "mutual information (nats)"


def information_figure(curves: "Mapping[str, InformationBounds]", truth: float | None = None) -> "Figure":
    """Bounds of several pairings by the number of negatives; the region above log N is hatched.

    Args:
        curves: by pairing; one whose name starts with "teacher" is black.
        truth: the true mutual information in nats, if known.
    """
    from matplotlib.lines import Line2D

    with new_figure(6.8, 4.2) as figure:
        axes = figure.subplots()
        draw_bounds(axes, curves, truth)
        if any(bounds.saturates_at for bounds in curves.values()):
            handles, _ = axes.get_legend_handles_labels()
            hollow = Line2D([], [], color=FAINT, linestyle="", label=SATURATED, **HOLLOW, marker="o")
            _add_legend(axes, handles=[*handles, hollow])
        axes.set_title("InfoNCE bound by the number of negatives")
    return figure


def information_over_time_figure(
    over_time: "InformationOverTime | None",
    curves: "Mapping[str, InformationBounds]",
    step: int,
    earlier: "Figure | None" = None,
) -> "Figure":
    """Left, a run's bounds over training, if it trains with icl; right, those at one step by number of negatives.

    Args:
        earlier: a figure of the same run, updated in place.
    """
    if earlier:
        move_step(earlier, step)
        right = earlier.axes[-1]
        for artist in [*right.get_lines(), *right.collections]:
            if artist.get_gid() == CURVE:
                artist.remove()
        with style():
            _draw_curves(right, curves)
            right.set_title(_at(step))
        return earlier
    with new_figure(9.4 if over_time else 6.8, 4.0 if over_time else 4.2, w_pad=0.1) as figure:
        if over_time:
            left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
            draw_over_time(left, over_time)
            mark_step(left, step)
        else:
            right = figure.subplots()
        draw_bounds(right, curves)
        right.set_title(_at(step))
    return figure


def _at(step: int) -> str:
    return f"By number of negatives (step {step:,})"


def draw_bounds(axes: "Axes", curves: "Mapping[str, InformationBounds]", truth: float | None = None) -> None:
    """One line for each pairing, with bars over random batches; a hollow marker where more negatives help little."""
    longest = max(curves.values(), key=lambda one: len(one.mean_N))
    negatives_N, most_N = longest.num_negatives_N, longest.most_N
    top = 1.08 * max(float(most_N[-1]), truth or 0)
    axes.fill_between(negatives_N, most_N, top, **BEYOND)
    axes.plot(negatives_N, most_N, color=INK, **LIMIT)
    text = "no bound can exceed\nlog N"
    axes.text(0.03, 0.86, text, transform=axes.transAxes, va="top", fontsize=8.5, bbox=PAPER)
    if truth is not None:
        axes.axhline(truth, color=GREEN, linewidth=1.6, zorder=3)
        label: Options = {"ha": "right", "va": "top", "weight": "bold", "fontsize": 8.5, "bbox": PAPER}
        annotate(axes, f"true value: {truth:g} nats", (negatives_N[-1], truth), (-2, -3), color=GREEN, **label)
    _draw_curves(axes, curves)
    _count_negatives(axes, negatives_N)
    axes.set(ylabel=NATS, ylim=(-BELOW * top, top))
    _add_legend(axes)
    finish(axes)


def _count_negatives(axes: "Axes", negatives_N: "NDArray[np.int64]") -> None:
    """A logarithmic x axis with ticks at the measured numbers of negatives."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(negatives_N[:: 2 if len(negatives_N) > 8 else 1])
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xticks([], minor=True)
    axes.set(xlabel="number of negatives N", xlim=(negatives_N[0] / ROOM, negatives_N[-1] * ROOM))


def _add_legend(axes: "Axes", **options: Any) -> None:
    """A legend on a pale background: it may cover the hatched region."""
    axes.legend(facecolor="white", frameon=True, edgecolor="none", framealpha=0.7, **KEY, **options)


def _draw_curves(axes: "Axes", curves: "Mapping[str, InformationBounds]") -> None:
    others = iter(zip(OTHERS, MARKERS[1:], strict=True))
    for number, (name, bounds) in enumerate(curves.items()):
        color, marker = (TEACHER, MARKERS[0]) if name.startswith("teacher") else next(others)
        negatives_N = bounds.num_negatives_N
        shifted_N = negatives_N * BAR_SHIFT ** (number - (len(curves) - 1) / 2)  # so that bars do not overlap
        bars = axes.vlines(shifted_N, bounds.low_N, bounds.high_N, color=color, linewidth=1.1, zorder=4)
        bars.set_gid(CURVE)
        line: Options = {"color": color, "marker": marker, "markersize": 4.5, "zorder": 5, "gid": CURVE}
        axes.plot(negatives_N, bounds.mean_N, label=name, linewidth=1.8, **line)
        if bounds.saturates_at:
            place = negatives_N.tolist().index(bounds.saturates_at)
            at = negatives_N[place : place + 1], bounds.mean_N[place : place + 1]
            axes.plot(*at, **line | HOLLOW | {"zorder": 6})


def draw_over_time(axes: "Axes", view: "InformationOverTime") -> None:
    """The bounds on held-out pairs and on training batches over the steps, and their largest possible values."""
    steps = [series.step[-1] for series in (view.training, *view.held_out.values()) if len(series)]
    last, top = max(int(max(steps)), 2), 1.1 * np.nanmax([view.held_out_most, view.training_most])
    if len(view.training):
        label = "training batches, both directions"
        axes.plot(view.training.step, view.training.value, color=FAINT, linewidth=1.3, label=label)
        _mark_limit(axes, view.training_most, view.batch_size, last, FAINT)
    names = {"image": "student image → teacher text", "text": "student text → teacher image"}
    for (side, series), color, marker in zip(view.held_out.items(), OTHERS, MARKERS[1:], strict=False):
        if len(series):
            axes.plot(series.step, series.value, color=color, marker=marker, markersize=4.5, label=names[side])
    if view.held_out_pairs:
        axes.axhspan(view.held_out_most, top, **BEYOND)
        _mark_limit(axes, view.held_out_most, view.held_out_pairs, last, INK)
    axes.set(ylabel=NATS, ylim=(-BELOW * top, top))
    count_steps(axes, last)
    axes.legend(**KEY)
    axes.set_title("Over training")
    finish(axes)


def _mark_limit(axes: "Axes", limit: float, num_pairs: int, last: int, color: str) -> None:
    axes.axhline(limit, color=color, **LIMIT)
    annotate(axes, f"limit for {num_pairs:,} pairs", (0.02 * last, limit), (0, 3), va="bottom", bbox=PAPER, zorder=3)
