"""Figures of a study: cells with seeds, means and intervals next to the paper's values, and differences.

Our results and the paper's have separate axes: models and data differ, so only trends can be compared.
"""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.figures.style import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    SEEDS,
    Options,
    draw_interval,
    draw_seeds,
    finish,
    new_figure,
)
from workbench.statistics.verdict import SETTLED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.views.metrics import MetricLabel
    from workbench.views.study import StudyTable

OURS, PAPER = BLUE, ORANGE
MOST_METRICS = 3
PANEL_IN, OURS_IN, PAPER_IN = 2.7, 2.3, 1.35  # a panel's width, and heights
ROW_IN, MARGIN_IN = 0.27, 0.75
WIDE_IN = 5.0  # wider figures have a legend of one line
LABEL_LETTERS = 36  # that fit under a panel
SEED_SHIFT = 0.16  # as a share of the distance between two cells
PUBLISHED: Options = {"color": PAPER, "marker": "D", "markersize": 4.5, "markerfacecolor": "white"}
OUR_KEY: Options = {"marker": "o", "markersize": 6, "color": OURS, "linewidth": 1.6}
SEED_KEY = SEEDS | {"label": "one seed"}


def study_figure(table: "StudyTable") -> "Figure":
    """One column for each metric: our results above, the paper's published values below.

    Cells go from left to right if the study varies one numeric setting, equally spaced as in the papers' tables; else
    from top to bottom.

    Raises:
        ValueError: no cell has a finished run.
    """
    metrics = _drawn(table)
    has_paper = any(table.has_paper(metric) for metric in metrics)
    upright = table.levels is not None
    heights = [OURS_IN, PAPER_IN] if upright else [MARGIN_IN + ROW_IN * len(table.cells)] * 2
    heights = heights if has_paper else heights[:1]
    with new_figure(max(4.2, 0.6 + PANEL_IN * len(metrics)), 0.5 + sum(heights), w_pad=0.08) as figure:
        shared: Options = {"sharex": "col"} if upright else {"sharey": True}
        panels = figure.subplots(len(heights), len(metrics), squeeze=False, height_ratios=heights, **shared)
        for column, metric in zip(zip(*panels, strict=True), metrics, strict=True):
            _draw_ours(column[0], table, metric, upright)
            for axes in column[1:]:
                _draw_paper(axes, table, metric, upright)
            for axes in column:
                finish(axes, grid="y" if upright else "x")
            _name_cells(column, table, metric, upright)
        _name_rows(list(panels), table, upright)
        hollow = {**OUR_KEY, "label": "seeds are missing", "markerfacecolor": "white"}
        is_partial = any(cell.finished and not cell.is_complete for cell in table.cells)
        _add_key(figure, {**OUR_KEY, "label": "mean and 95 % interval"}, *([hollow] if is_partial else []), SEED_KEY)
    return figure


def _drawn(table: "StudyTable") -> list["MetricLabel"]:
    """The first metrics that cells have; those that the paper publishes first."""
    found = [
        metric for metric in table.metrics if any(table.entry(cell, metric).mean is not None for cell in table.cells)
    ]
    if not found:
        raise ValueError(f"nothing to draw: no run of study '{table.name}' has finished")
    return sorted(found[:MOST_METRICS], key=lambda metric: not table.has_paper(metric))


def _places(table: "StudyTable", upright: bool) -> list[int]:
    """The position of each cell: from the left, or from the top."""
    places = list(range(len(table.cells)))
    return places if upright else places[::-1]


def _draw_ours(axes: "Axes", table: "StudyTable", metric: "MetricLabel", upright: bool) -> None:
    """Means with intervals, thin and dotted if they exceed the axes; hollow if seeds are missing; states of others."""
    low, high = _limits(table, metric)
    means = []
    for place, cell in zip(_places(table, upright), table.cells, strict=True):
        mean = table.entry(cell, metric).mean
        if mean is None and upright:
            options: Options = {"rotation": 90, "ha": "center", "va": "bottom", "transform": axes.get_xaxis_transform()}
            axes.text(place, 0.03, cell.state, fontsize=7, color=FAINT, **options)
        elif mean is None:
            axes.text(
                0.03, place, cell.state, fontsize=7, color=FAINT, va="center", transform=axes.get_yaxis_transform()
            )
        else:
            means.append((place, metric.factor * mean.mean))
            is_shown = low <= metric.factor * mean.low and metric.factor * mean.high <= high
            line: Options = {} if is_shown else {"linewidth": 1.0, "linestyle": (0, (1, 2))}
            face = OURS if cell.is_complete else "white"
            draw_interval(axes, place, mean, metric.factor, upright=upright, face=face, **line)
            place_of_seeds = place - SEED_SHIFT if upright else place + SEED_SHIFT
            draw_seeds(axes, place_of_seeds, mean.per_seed, metric.factor, upright=upright)
    if upright:
        axes.plot(*zip(*means, strict=True), color=OURS, linewidth=1.2, zorder=1)
    (axes.set_ylim if upright else axes.set_xlim)(low, high)
    axes.set_title(metric.label)


def _draw_paper(axes: "Axes", table: "StudyTable", metric: "MetricLabel", upright: bool) -> None:
    """The paper's values, joined by a line if cells go from left to right."""
    values = [table.entry(cell, metric).paper for cell in table.cells]
    known = [(place, value) for place, value in zip(_places(table, upright), values, strict=True) if value is not None]
    if known:
        places, published = zip(*known, strict=True)
        line = "-" if upright else ""
        at = (places, published) if upright else (published, places)
        axes.plot(*at, **PUBLISHED, linewidth=1.2, linestyle=line, clip_on=False)
    else:
        axes.set_axis_off()
        middle: Options = {"transform": axes.transAxes, "ha": "center", "va": "center"}
        axes.text(0.5, 0.5, "not published", color=FAINT, fontsize=8, **middle)


def _name_cells(column: Sequence["Axes"], table: "StudyTable", metric: "MetricLabel", upright: bool) -> None:
    """The cells' names at the ticks: below the lowest panel, or to the left of each."""
    places, names = _places(table, upright), [cell.name for cell in table.cells]
    if upright:
        column[-1].set_xticks(places, names)
        column[-1].set(xlim=(-0.5, len(names) - 0.5), xlabel=table.setting)
        return
    for axes in column:
        axes.set_yticks(places, names)
        axes.set(ylim=(-0.6, len(names) - 0.4), xlabel=metric.unit or metric.label)


def _name_rows(panels: "Sequence[Sequence[Axes]]", table: "StudyTable", upright: bool) -> None:
    """Label the rows of panels "ours" and "paper"; with a single row, only the unit."""
    units = {metric.unit for metric in _drawn(table)}
    unit = f" ({units.pop()})" if len(units) == 1 and upright and units != {""} else ""
    if len(panels) == 1:
        panels[0][0].set_ylabel(unit.strip(" ()"))
        return
    for row, (name, color) in zip(panels, (("ours", OURS), ("paper", PAPER)), strict=True):
        row[0].set_ylabel(f"{name}{unit}", color=color, weight="bold")


def _limits(table: "StudyTable", metric: "MetricLabel") -> tuple[float, float]:
    """Axis limits that include all seeds, and interval ends up to one range of the seeds beyond them.

    Intervals of two seeds can be so wide that they would hide all other differences.
    """
    found = [mean for cell in table.cells if (mean := table.entry(cell, metric).mean)]
    values = [metric.factor * value for mean in found for value in mean.per_seed]
    span = max(max(values) - min(values), 1e-3 * max(map(abs, values)), 1e-9)
    bounds = [metric.factor * bound for mean in found for bound in (mean.low, mean.high)]
    near = [bound for bound in bounds if min(values) - span <= bound <= max(values) + span]
    low, high = min([*near, *values]), max([*near, *values])
    pad = 0.06 * (high - low) or span
    return low - pad, high + pad


def differences_figure(table: "StudyTable") -> "Figure":
    """Each cell's difference from the baseline with its interval, and the paper's difference from its baseline.

    Raises:
        ValueError: no cell has a difference from the baseline.
    """
    metrics = [
        metric for metric in table.metrics if any(table.entry(cell, metric).gain is not None for cell in table.cells)
    ][:MOST_METRICS]
    if not metrics:
        raise ValueError(f"nothing to compare: the baseline of study '{table.name}' has not finished")
    cells = [cell.name for cell in table.cells if cell.name != table.baseline][::-1]
    size = (max(4.2, 0.9 + PANEL_IN * len(metrics)), 1.25 + 1.25 * ROW_IN * len(cells))
    with new_figure(*size, w_pad=0.08) as figure:
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            for place, cell in enumerate(cells):
                _draw_difference(axes, table, cell, metric, place)
            axes.axvline(0, color=INK, linewidth=0.8)
            unit = f" ({metric.difference_unit})" if metric.unit else ""
            label = textwrap.fill(f"difference from {table.baseline}{unit}", LABEL_LETTERS)
            axes.set(xlabel=label, ylim=(-0.6, len(cells) - 0.4))
            axes.set_yticks(range(len(cells)), cells)
            axes.set_title(metric.label)
            finish(axes, grid="x")
        has_paper = any(table.entry(cell, metric).paper_gain is not None for cell in table.cells for metric in metrics)
        _add_key(
            figure,
            {**OUR_KEY, "label": "ours, 95 % interval"},
            {**OUR_KEY, "label": "ours, open: more seeds needed", "markerfacecolor": "white"},
            SEED_KEY,
            *([{**PUBLISHED, "linestyle": "", "label": "the paper's"}] if has_paper else []),
        )
    return figure


def _draw_difference(axes: "Axes", table: "StudyTable", cell: str, metric: "MetricLabel", place: int) -> None:
    entry = table.entries[cell].get(metric.name)
    if entry and entry.gain:
        face = OURS if entry.verdict in SETTLED else "white"
        draw_interval(axes, place + 0.1, entry.gain, metric.factor, face=face)
        draw_seeds(axes, place + 0.1, entry.gain.per_seed, metric.factor)
    if entry and entry.paper_gain is not None:
        axes.plot(entry.paper_gain, place - 0.18, **PUBLISHED, clip_on=False)


def _add_key(figure: "Figure", *kinds: Options) -> None:
    """A legend under all panels."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **kind) for kind in kinds]
    columns = len(kinds) if figure.get_figwidth() > WIDE_IN else 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=1.8)
