"""InfoNCE bounds on mutual information: by the number of negatives N, with their limit log N, and over training."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.figures.style import FAINT, INK, finish, freeze_layout, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from workbench.views.information import InformationBounds, InformationOverTime

TEACHER, OTHERS = INK, ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MARKERS = "osD^v"
BEYOND: dict[str, Any] = {"facecolor": "#F5F5F5", "edgecolor": "#D2D2D2", "hatch": "////", "linewidth": 0}
HOLLOW: dict[str, Any] = {"markersize": 8, "markerfacecolor": "white", "markeredgewidth": 1.6}
SATURATED = "more negatives help little beyond this"
KEY: dict[str, Any] = {"facecolor": "white", "frameon": True, "edgecolor": "none", "framealpha": 0.7}
TRUTH = "#009E73"
CURVE, CURSOR = "curve", "cursor"  # gids of what moves with the step
ROOM, BELOW = 1.12, 0.06  # margins: a factor on the x axis; a share of the height below 0
BAR_SHIFT = 1.05  # horizontal factor between the error bars of one batch size
NEGATIVES = "number of negatives N"
NATS = "mutual information (nats)"


def information_figure(curves: "Mapping[str, InformationBounds]", truth: float | None = None) -> "Figure":
    """Bounds of several pairings by the number of negatives; the region above log N is hatched.

    Args:
        curves: by pairing; one whose name starts with "teacher" is black.
        truth: the true mutual information in nats, if known.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(6.8, 4.2), layout="constrained")
        axes = figure.subplots()
        draw_bounds(axes, curves, truth, is_still=True)
        axes.set_title("InfoNCE bound by the number of negatives")
        freeze_layout(figure)
    return figure


def information_over_time_figure(
    over_time: "InformationOverTime | None", curves: "Mapping[str, InformationBounds]", step: int
) -> "Figure":
    """Left, a run's bounds over training, if it trains with icl; right, those at one step by number of negatives."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(9.4, 4.0) if over_time else (6.8, 4.2))
        figure.set_layout_engine("constrained", w_pad=0.1)
        if over_time:
            left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
            draw_over_time(left, over_time)
            left.axvline(step, color=INK, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1, gid=CURSOR)
        else:
            right = figure.subplots()
        draw_bounds(right, curves)
        right.set_title(_at(step))
        freeze_layout(figure)
    return figure


def move_to_step(figure: "Figure", curves: "Mapping[str, InformationBounds]", step: int) -> None:
    """Update a figure of :func:`information_over_time_figure` in place to another step or scale."""
    right = figure.axes[-1]
    for axes in figure.axes:
        for line in axes.get_lines():
            if line.get_gid() == CURSOR:
                line.set_xdata([step, step])
    for artist in [*right.get_lines(), *right.collections]:
        if artist.get_gid() == CURVE:
            artist.remove()
    with style():
        _draw_curves(right, curves)
        right.set_title(_at(step))


def _at(step: int) -> str:
    return f"By number of negatives (step {step:,})"


def draw_bounds(
    axes: "Axes",
    curves: "Mapping[str, InformationBounds]",
    truth: float | None = None,
    *,
    is_still: bool = False,
) -> None:
    """One line for each pairing, with bars over random batches; a hollow marker where more negatives help little.

    Args:
        is_still: explain the hollow marker in the legend. Not in a figure that is updated, where it comes and goes.
    """
    longest = max(curves.values(), key=lambda one: len(one.mean_N))
    negatives_N, most_N = longest.num_negatives_N, longest.most_N
    top = 1.08 * max(float(most_N[-1]), truth or 0)
    axes.fill_between(negatives_N, most_N, top, **BEYOND, zorder=0)
    axes.plot(negatives_N, most_N, color=INK, linewidth=1.1, linestyle=(0, (4, 2)), zorder=2)
    axes.text(
        0.03,
        0.86,
        "no bound can exceed\nlog N",
        transform=axes.transAxes,
        va="top",
        fontsize=8.5,
        bbox=_paper(),
    )
    if truth is not None:
        _draw_truth(axes, truth, negatives_N[-1])
    _draw_curves(axes, curves)
    _set_negatives_axis(axes, negatives_N)
    axes.set(ylabel=NATS, ylim=(-BELOW * top, top))
    _add_legend(axes, explain_hollow=is_still and any(bounds.saturates_at for bounds in curves.values()))
    finish(axes)


def _draw_truth(axes: "Axes", truth: float, last: float) -> None:
    axes.axhline(truth, color=TRUTH, linewidth=1.6, zorder=3)
    axes.annotate(
        f"true value: {truth:g} nats",
        (last, truth),
        (-2, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        color=TRUTH,
        weight="bold",
        fontsize=8.5,
        bbox=_paper(),
    )


def _set_negatives_axis(axes: "Axes", negatives_N: "NDArray[np.int64]") -> None:
    """A logarithmic x axis with ticks at the measured numbers of negatives."""
    from matplotlib.ticker import FixedLocator, FuncFormatter

    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(negatives_N[:: 2 if len(negatives_N) > 8 else 1].tolist()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.set(xlabel=NEGATIVES, xlim=(negatives_N[0] / ROOM, negatives_N[-1] * ROOM))


def _add_legend(axes: "Axes", *, explain_hollow: bool) -> None:
    from matplotlib.lines import Line2D

    handles, _ = axes.get_legend_handles_labels()
    if explain_hollow:
        handles.append(Line2D([], [], color=FAINT, linestyle="", label=SATURATED, **HOLLOW, marker="o"))
    axes.legend(handles=handles, loc="lower right", handlelength=2.2, fontsize=8, **KEY)


def _draw_curves(axes: "Axes", curves: "Mapping[str, InformationBounds]") -> None:
    others = iter(zip(OTHERS, MARKERS[1:], strict=True))
    for number, (name, bounds) in enumerate(curves.items()):
        color, marker = (TEACHER, MARKERS[0]) if name.startswith("teacher") else next(others)
        negatives_N = bounds.num_negatives_N
        shifted_N = negatives_N * BAR_SHIFT ** (number - (len(curves) - 1) / 2)  # so that bars do not overlap
        bars = axes.vlines(shifted_N, bounds.low_N, bounds.high_N, color=color, linewidth=1.1, zorder=4)
        bars.set_gid(CURVE)
        line: dict[str, Any] = {
            "color": color,
            "marker": marker,
            "markersize": 4.5,
            "zorder": 5,
            "gid": CURVE,
        }
        axes.plot(negatives_N, bounds.mean_N, label=name, linewidth=1.8, **line)
        if bounds.saturates_at:
            place = negatives_N.tolist().index(bounds.saturates_at)
            at = negatives_N[place : place + 1], bounds.mean_N[place : place + 1]
            axes.plot(*at, **line | HOLLOW | {"zorder": 6})


def draw_over_time(axes: "Axes", view: "InformationOverTime") -> None:
    """The bounds on held-out pairs and on training batches over the steps, and their largest possible values."""
    from matplotlib.ticker import MaxNLocator

    steps = [series.step[-1] for series in (view.training, *view.held_out.values()) if len(series)]
    last, top = max(int(max(steps)), 2), 1.1 * np.nanmax([view.held_out_most, view.training_most])
    if len(view.training):
        axes.plot(
            view.training.step,
            view.training.value,
            color=FAINT,
            linewidth=1.3,
            label="training batches, both directions",
        )
        _mark_limit(axes, view.training_most, f"limit for {view.batch_size:,} pairs", last, FAINT)
    names = {"image": "student image → teacher text", "text": "student text → teacher image"}
    for (side, series), color, marker in zip(view.held_out.items(), OTHERS, MARKERS[1:], strict=False):
        if len(series):
            axes.plot(series.step, series.value, color=color, marker=marker, markersize=4.5, label=names[side])
    if view.held_out_pairs:
        axes.axhspan(view.held_out_most, top, **BEYOND, zorder=0)
        _mark_limit(axes, view.held_out_most, f"limit for {view.held_out_pairs:,} pairs", last)
    axes.set(xlabel="training step", ylabel=NATS, xlim=(0, last), ylim=(-BELOW * top, top))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.legend(loc="lower right", fontsize=8, handlelength=2.2)
    axes.set_title("Over training")
    finish(axes)


def _mark_limit(axes: "Axes", limit: float, text: str, last: int, color: str = INK) -> None:
    axes.axhline(limit, color=color, linewidth=1.1, linestyle=(0, (4, 2)), zorder=2)
    axes.annotate(
        text, (0.02 * last, limit), (0, 3), textcoords="offset points", va="bottom", fontsize=8, bbox=_paper(), zorder=3
    )


def _paper() -> dict[str, Any]:
    return {"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.85}
