"""A run in training: its weighted losses and a metric over the steps."""

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.figures.style import FAINT, INK, finish, freeze_layout, palette, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.views.curves import Curves, Series
    from workbench.views.metrics import MetricLabel

SIZE_IN = (8.6, 3.5)
MARKERS = "osD^vPX*"
MANY = 40  # lines with more points have no markers


def training_figure(curves: "Curves | None", metric: "MetricLabel", split: str, num_steps: int) -> "Figure":
    """Left, the weighted losses and their total on a logarithmic scale; right, the metric. Both span the full run.

    Args:
        curves: None before the first step.
        num_steps: planned for the run; 0 if unknown.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with style():
        figure = Figure(figsize=SIZE_IN)
        figure.set_layout_engine("constrained", w_pad=0.1)
        left, right = figure.subplots(1, 2, width_ratios=[1.35, 1])
        measured = curves.metrics.get(split, {}).get(metric.name) if curves else None
        if curves and len(curves.loss):
            draw_losses(left, curves)
        if measured is not None:
            _draw_metric(right, measured, metric)
        for axes, is_empty in ((left, not (curves and len(curves.loss))), (right, measured is None)):
            if is_empty:
                axes.set_yticks([])
                axes.text(0.5, 0.5, "no data yet", transform=axes.transAxes, ha="center", va="center", color=FAINT)
            axes.set(xlabel="training step", xlim=(0, max(num_steps, _last(curves), 2)))
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            finish(axes)
        left.set_title("Weighted losses")
        right.set_title(f"{metric.title}, {split}")
        freeze_layout(figure)
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


def _draw_metric(axes: "Axes", series: "Series", metric: "MetricLabel") -> None:
    color = palette(["baseline"])["baseline"]
    axes.plot(
        series.step, metric.factor * series.value, color=color, marker="o", markersize=5, linewidth=2, clip_on=False
    )
    if series.value.min() >= 0:
        axes.set_ylim(0, None)


def _last(curves: "Curves | None") -> int:
    return int(curves.loss.step[-1]) if curves and len(curves.loss) else 0
