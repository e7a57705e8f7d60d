"""Figures of a study: cells with seeds, means and intervals next to the paper's values, and differences.

Our results and the paper's have separate axes: models and data differ, so only trends can be compared.
"""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench.figures.demo import draw_learning
from workbench.figures.style import FAINT, INK, finish, freeze_layout, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.views.curves import LearningView
    from workbench.views.metrics import MetricLabel
    from workbench.views.study import StudyTable

OURS, PAPER = "#0072B2", "#D55E00"
MOST_METRICS = 3
PANEL_IN, OURS_IN, PAPER_IN = 2.7, 2.3, 1.35  # a panel's width, and heights
ROW_IN, MARGIN_IN = 0.27, 0.75
LEARNING_IN = (6.0, 3.4)
WIDE_IN = 5.0  # wider figures have a legend of one line
LABEL_LETTERS = 36  # that fit under a panel
SEED_SHIFT = 0.16  # as a share of the distance between two cells


def study_figure(table: "StudyTable") -> "Figure":
    """One column for each metric: our results above, the paper's published values below.

    Raises:
        ValueError: no cell has a finished run.
    """
    from matplotlib.figure import Figure

    metrics = _drawn(table)
    has_paper = any(table.has_paper(metric) for metric in metrics)
    is_series = table.levels is not None
    rows_in = ROW_IN * len(table.cells)
    heights = [OURS_IN, PAPER_IN] if is_series else [MARGIN_IN + rows_in, MARGIN_IN + rows_in]
    heights = heights if has_paper else heights[:1]
    with style():
        figure = Figure(figsize=(max(4.2, 0.6 + PANEL_IN * len(metrics)), 0.5 + sum(heights)))
        figure.set_layout_engine("constrained", w_pad=0.08)
        shared: dict[str, Any] = {"sharex": "col"} if is_series else {"sharey": True}
        panels = figure.subplots(len(heights), len(metrics), squeeze=False, height_ratios=heights, **shared)
        for column, metric in zip(zip(*panels, strict=True), metrics, strict=True):
            (_draw_series if is_series else _draw_rows)(column, table, metric)
        _name_rows(panels, table, is_series)
        _add_key(figure, *_key_of_cells(table))
        freeze_layout(figure)
    return figure


def _drawn(table: "StudyTable") -> list["MetricLabel"]:
    """The first metrics that cells have; those that the paper publishes first."""
    found = [
        metric for metric in table.metrics if any(table.entry(cell, metric).mean is not None for cell in table.cells)
    ]
    if not found:
        raise ValueError(f"nothing to draw: no run of study '{table.name}' has finished")
    return sorted(found[:MOST_METRICS], key=lambda metric: not table.has_paper(metric))


def _draw_series(column: Sequence["Axes"], table: "StudyTable", metric: "MetricLabel") -> None:
    """Cells from left to right, equally spaced, as in the papers' tables."""
    places = range(len(table.cells))
    ours, *paper = column
    drawn = []
    limits = _limits(table, metric)
    for place, cell in zip(places, table.cells, strict=True):
        mean = table.entry(cell, metric).mean
        if mean is None:
            ours.text(place, 0.03, cell.state, transform=ours.get_xaxis_transform(), **_note(rotation=90))
            continue
        low, middle, high = (metric.factor * bound for bound in (mean.low, mean.mean, mean.high))
        drawn.append((place, middle))
        _draw_mean(ours, [place, place], [low, high], (place, middle), cell.is_complete, limits)
        seeds = [metric.factor * value for value in mean.per_seed]
        ours.plot([place - SEED_SHIFT] * len(seeds), seeds, **_dots())
    ours.plot(*zip(*drawn, strict=True), color=OURS, linewidth=1.2, zorder=1) if drawn else None
    ours.set_ylim(limits)
    if paper:
        points = [(place, table.entry(cell, metric).paper) for place, cell in zip(places, table.cells, strict=True)]
        known = [(place, value) for place, value in points if value is not None]
        paper[0].plot(*zip(*known, strict=True), **_paper_line()) if known else _mark_unpublished(paper[0])
    column[-1].set_xticks(list(places), [cell.name for cell in table.cells])
    column[-1].set(xlim=(-0.5, len(table.cells) - 0.5), xlabel=table.setting)
    for axes in column:
        finish(axes)
    ours.set_title(metric.label)


def _draw_rows(column: Sequence["Axes"], table: "StudyTable", metric: "MetricLabel") -> None:
    """Cells from top to bottom, for studies that do not vary one numeric setting."""
    ours, *paper = column
    places = range(len(table.cells) - 1, -1, -1)
    limits = _limits(table, metric)
    for place, cell in zip(places, table.cells, strict=True):
        mean = table.entry(cell, metric).mean
        if mean is None:
            ours.text(0.03, place, cell.state, transform=ours.get_yaxis_transform(), **_note())
            continue
        low, middle, high = (metric.factor * bound for bound in (mean.low, mean.mean, mean.high))
        _draw_mean(ours, [low, high], [place, place], (middle, place), cell.is_complete, limits)
        seeds = [metric.factor * value for value in mean.per_seed]
        ours.plot(seeds, [place + SEED_SHIFT] * len(seeds), **_dots())
    ours.set_xlim(limits)
    if paper:
        points = [(table.entry(cell, metric).paper, place) for place, cell in zip(places, table.cells, strict=True)]
        known = [(value, place) for value, place in points if value is not None]
        paper[0].plot(*zip(*known, strict=True), **_paper_line(linestyle="")) if known else _mark_unpublished(paper[0])
    for axes in column:
        axes.set_yticks(list(places), [cell.name for cell in table.cells])
        axes.set(ylim=(-0.6, len(table.cells) - 0.4))
        finish(axes)
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
    ours.set_title(metric.label)
    unit = metric.unit or metric.label
    column[-1].set_xlabel(unit)
    ours.set_xlabel(unit)


def _name_rows(panels: "Sequence[Sequence[Axes]]", table: "StudyTable", is_series: bool) -> None:
    """Label the rows of panels "ours" and "paper"; with a single row, only the unit."""
    units = {metric.unit for metric in _drawn(table)}
    unit = f" ({units.pop()})" if len(units) == 1 and is_series and units != {""} else ""
    if len(panels) == 1:
        panels[0][0].set_ylabel(unit.strip(" ()"))
        return
    for row, (name, color) in zip(panels, (("ours", OURS), ("paper", PAPER)), strict=True):
        row[0].set_ylabel(f"{name}{unit}", color=color, weight="bold")


def _draw_mean(
    axes: "Axes",
    xs: list[float],
    ys: list[float],
    at: tuple[float, float],
    is_complete: bool,
    limits: tuple[float, float],
) -> None:
    """The interval, thin and dotted if it exceeds the axes; the mean, hollow if seeds are missing."""
    low, high = xs if xs[0] != xs[1] else ys
    is_shown = limits[0] <= low and high <= limits[1]
    line: dict[str, Any] = {"linewidth": 1.6} if is_shown else {"linewidth": 1.0, "linestyle": (0, (1, 2))}
    axes.plot(xs, ys, color=OURS, zorder=3, solid_capstyle="butt", **line)
    face = OURS if is_complete else "white"
    axes.plot(*at, marker="o", markersize=6, color=OURS, markerfacecolor=face, zorder=4, linestyle="")


def _dots() -> dict[str, Any]:
    return {"linestyle": "", "marker": "o", "markersize": 2.8, "color": FAINT, "zorder": 5}


def _paper_line(linestyle: str = "-") -> dict[str, Any]:
    return {
        "color": PAPER,
        "marker": "D",
        "markersize": 4.5,
        "linewidth": 1.2,
        "linestyle": linestyle,
        "markerfacecolor": "white",
        "clip_on": False,
    }


def _note(**options: Any) -> dict[str, Any]:
    return {"fontsize": 7, "color": FAINT, "ha": "left", "va": "center", **options} | (
        {"ha": "center", "va": "bottom"} if options else {}
    )


def _mark_unpublished(axes: "Axes") -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "not published", transform=axes.transAxes, ha="center", va="center", color=FAINT, fontsize=8)


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
    from matplotlib.figure import Figure

    metrics = [
        metric for metric in table.metrics if any(table.entry(cell, metric).gain is not None for cell in table.cells)
    ][:MOST_METRICS]
    if not metrics:
        raise ValueError(f"nothing to compare: the baseline of study '{table.name}' has not finished")
    cells = [cell for cell in table.cells if cell.name != table.baseline]
    with style():
        figure = Figure(figsize=(max(4.2, 0.9 + PANEL_IN * len(metrics)), 1.25 + 1.25 * ROW_IN * len(cells)))
        figure.set_layout_engine("constrained", w_pad=0.08)
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            for place, cell in enumerate(reversed(cells)):
                _draw_difference(axes, table, cell.name, metric, place)
            axes.axvline(0, color=INK, linewidth=0.8)
            unit = "points" if metric.unit == "%" else metric.unit
            label = f"difference from {table.baseline} ({unit})" if unit else f"difference from {table.baseline}"
            axes.set(xlabel=textwrap.fill(label, LABEL_LETTERS), ylim=(-0.6, len(cells) - 0.4))
            axes.set_yticks(range(len(cells)), [cell.name for cell in reversed(cells)])
            axes.set_title(metric.label)
            finish(axes)
            axes.grid(visible=True, axis="x")
            axes.grid(visible=False, axis="y")
        _add_key(figure, *_key_of_differences(table, metrics))
        freeze_layout(figure)
    return figure


def _draw_difference(axes: "Axes", table: "StudyTable", cell: str, metric: "MetricLabel", place: int) -> None:
    entry = table.entries[cell].get(metric.name)
    if entry is None:
        return
    if entry.gain is not None:
        gain, factor = entry.gain, metric.factor
        axes.plot([gain.low * factor, gain.high * factor], [place + 0.1] * 2, color=OURS, linewidth=1.6)
        axes.plot([each * factor for each in gain.per_seed], [place + 0.1] * len(gain.per_seed), **_dots())
        is_significant = entry.verdict in ("better", "worse", "higher", "lower")
        face = OURS if is_significant else "white"
        axes.plot(gain.mean * factor, place + 0.1, marker="o", markersize=6, color=OURS, markerfacecolor=face, zorder=6)
    if entry.paper_gain is not None:
        axes.plot(entry.paper_gain, place - 0.18, **_paper_line(linestyle=""))


def _key_of_cells(table: "StudyTable") -> list[dict[str, Any]]:
    hollow = _ours("seeds are missing", markerfacecolor="white")
    is_partial = any(cell.finished and not cell.is_complete for cell in table.cells)
    return [_ours("mean and 95 % interval"), *([hollow] if is_partial else []), _one_seed()]


def _key_of_differences(table: "StudyTable", metrics: Sequence["MetricLabel"]) -> list[dict[str, Any]]:
    kinds = [
        _ours("ours, 95 % interval"),
        _ours("ours, not significant (Holm)", markerfacecolor="white"),
        _one_seed(),
    ]
    published = [entry.paper_gain for of in table.entries.values() for m in metrics if (entry := of.get(m.name))]
    has_paper = any(gain is not None for gain in published)
    return [*kinds, {**_paper_line(linestyle=""), "label": "the paper's"}] if has_paper else kinds


def _ours(label: str, **options: Any) -> dict[str, Any]:
    return {"marker": "o", "markersize": 6, "color": OURS, "linewidth": 1.6, "label": label, **options}


def _one_seed() -> dict[str, Any]:
    return {**_dots(), "label": "one seed"}


def _add_key(figure: "Figure", *kinds: dict[str, Any]) -> None:
    """A legend under all panels."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **kind) for kind in kinds]
    columns = len(kinds) if figure.get_figwidth() > WIDE_IN else 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=1.8)


def learning_figure(view: "LearningView") -> "Figure":
    """Learning curves of the cells: a thin line for each seed, the mean bold."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=LEARNING_IN)
        figure.set_layout_engine("constrained", w_pad=0.1)
        draw_learning(figure.subplots(), view)
        freeze_layout(figure)
    return figure
