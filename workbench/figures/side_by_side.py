"""Several sweeps of one study: agreement of their orders against cost, and their differences side by side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.figures.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PINK,
    Options,
    draw_interval,
    finish,
    mark_level,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.statistics.intervals import Gain
    from workbench.statistics.rank_agreement import Agreement
    from workbench.views.metrics import MetricLabel

SERIES: tuple[Options, ...] = (
    {"color": BLUE, "marker": "o"},
    {"color": ORANGE, "marker": "D"},
    {"color": GREEN, "marker": "s"},
    {"color": PINK, "marker": "^"},
)
PANEL_IN, HEIGHT_IN, ROW_IN = 3.7, 3.3, 0.34
SHIFT = 0.012  # between the series of one sweep, as a share of the logarithmic axis


@dataclass(frozen=True)
class BudgetPoint:
    """One sweep: its steps, what a seed of all its cells costs, and the agreement of its order, by metric.

    ``to_paper`` is with the published order, ``to_last`` with that of the most expensive sweep.
    """

    label: str
    cpu_s: float
    to_paper: Mapping[str, "Agreement"]
    to_last: Mapping[str, "Agreement"]


def budget_figure(points: Sequence[BudgetPoint]) -> "Figure":
    """Kendall's τ over CPU seconds, with its interval: with the published order, and with the final one.

    Raises:
        ValueError: no sweep has an order to compare.
    """
    panels = {
        "with the published order": [one.to_paper for one in points],
        "with the order after the longest training": [one.to_last for one in points],
    }
    shown = {title: found for title, found in panels.items() if any(found)}
    if not shown:
        raise ValueError("nothing to draw: no sweep has at least three cells to order")
    metrics = list(dict.fromkeys(metric for found in shown.values() for of in found for metric in of))
    with new_figure(0.7 + PANEL_IN * len(shown), HEIGHT_IN, w_pad=0.08) as figure:
        row = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (title, found) in zip(row, shown.items(), strict=True):
            for number, metric in enumerate(metrics):
                _draw_series(axes, points, [of.get(metric) for of in found], number - (len(metrics) - 1) / 2, number)
            axes.axhline(0, color=INK, linewidth=0.8)
            mark_level(axes, 1)
            axes.set(xscale="log", ylim=(-1.02, 1.06), xlabel="CPU seconds of one seed of all cells (steps)")
            axes.set_xticks([one.cpu_s for one in points], [f"{one.cpu_s:,.0f}\n({one.label})" for one in points])
            axes.minorticks_off()
            axes.set_title(title)
            finish(axes)
        row[0].set_ylabel("Kendall's τ")
        _add_key(figure, metrics)
    return figure


def _draw_series(
    axes: "Axes", points: Sequence[BudgetPoint], agreed: "Sequence[Agreement | None]", shift: float, number: int
) -> None:
    style = SERIES[number % len(SERIES)]
    axis = math.log(max(one.cpu_s for one in points) / min(one.cpu_s for one in points))
    known = [(one.cpu_s * math.exp(SHIFT * axis * shift), of) for one, of in zip(points, agreed, strict=True) if of]
    for place, of in known:
        axes.plot([place] * 2, [of.low, of.high], color=style["color"], linewidth=1.4, solid_capstyle="butt")
    axes.plot([place for place, _ in known], [of.tau for _, of in known], linewidth=1.0, markersize=5.5, **style)


def side_by_side_figure(
    metrics: "Sequence[MetricLabel]", gains: "Mapping[str, Mapping[str, Mapping[str, Gain]]]", baseline: str
) -> "Figure":
    """Each cell's difference from the baseline with its interval, one color for each sweep.

    Args:
        gains: by sweep, then metric, then cell.

    Raises:
        ValueError: no sweep has a difference.
    """
    shown = [metric for metric in metrics if any(of.get(metric.name) for of in gains.values())]
    if not shown:
        raise ValueError("nothing to compare: no sweep has a finished baseline")
    cells = list(dict.fromkeys(cell for of in gains.values() for found in of.values() for cell in found))[::-1]
    with new_figure(1.4 + 2.6 * len(shown), 1.2 + ROW_IN * len(cells), w_pad=0.08) as figure:
        row = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, metric in zip(row, shown, strict=True):
            for number, of in enumerate(gains.values()):
                place = 0.4 * ((len(gains) - 1) / 2 - number) / max(1, len(gains) - 1)
                for cell, gain in of.get(metric.name, {}).items():
                    draw_interval(axes, cells.index(cell) + place, gain, metric.factor, **SERIES[number % len(SERIES)])
            axes.axvline(0, color=INK, linewidth=0.8)
            axes.set(ylim=(-0.6, len(cells) - 0.4), xlabel=f"difference from {baseline} ({metric.difference_unit})")
            axes.set_yticks(range(len(cells)), cells)
            axes.set_title(metric.label)
            finish(axes, grid="x")
        _add_key(figure, list(gains))
    return figure


def _add_key(figure: "Figure", names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linewidth=1.4, label=name, **SERIES[number % len(SERIES)]) for number, name in enumerate(names)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(names), handlelength=1.8)
