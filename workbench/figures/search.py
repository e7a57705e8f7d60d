"""A search's figures: what was tried over time, what each setting does, and the trade between objectives."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.config.cells import as_text
from workbench.figures.style import FAINT, INK, finish, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.statistics.effects import Effect
    from workbench.views.metrics import MetricLabel
    from workbench.views.study import Point, Tried

COLOUR, BEST = "#0072B2", "#D55E00"
SIZE_IN = (5.4, 3.1)
OF_NO_PAIRS = ("num_params", "elapsed_s")


def history_figure(tried: Sequence["Tried"], metric: "MetricLabel") -> "Figure":
    """Every configuration's validation mean, hollow where seeds are missing, and the best so far as a line.

    Raises:
        ValueError: nothing has a value yet.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    known = [one for one in tried if one.value is not None]
    if not known:
        raise ValueError("nothing to draw: no configuration has finished at any seed")
    most = max(one.num_seeds for one in known)
    with style():
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        axes = figure.subplots()
        for one in known:
            face = COLOUR if one.num_seeds == most else "white"
            value = metric.factor * (one.value or 0.0)
            axes.plot(one.trial, value, marker="o", markersize=5, color=COLOUR, markerfacecolor=face, linestyle="")
        steps = [(one.trial, metric.factor * one.best) for one in tried if one.best is not None]
        if steps:
            axes.step(*zip(*steps, strict=True), where="post", color=BEST, linewidth=1.6, zorder=1)
        for one in tried:
            if one.state == "diverged":
                axes.plot(one.trial, 0.02, marker="x", color=FAINT, transform=axes.get_xaxis_transform(), clip_on=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="configuration, in the order tried", ylabel=_measured(metric, "validation"))
        axes.set_title(f"Filled: {most} seeds; hollow: fewer; x: diverged; line: the best so far")
        finish(axes)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def effects_figure(effects: Sequence["Effect"], metric: "MetricLabel") -> "Figure":
    """A panel a setting: what each of its values adds, averaged over the other settings."""
    from matplotlib.figure import Figure

    settings = list(dict.fromkeys(effect.setting for effect in effects))
    with style():
        figure = Figure(figsize=(0.7 + 2.6 * len(settings), 2.9))
        figure.set_layout_engine("constrained", w_pad=0.08)
        panels = figure.subplots(1, len(settings), sharey=True, squeeze=False)[0]
        for axes, setting in zip(panels, settings, strict=True):
            mine = [effect for effect in effects if effect.setting == setting]
            for place, effect in enumerate(mine):
                low, middle, high = (metric.factor * x for x in (effect.gain.low, effect.gain.mean, effect.gain.high))
                axes.plot([place, place], [low, high], color=COLOUR, linewidth=1.6, solid_capstyle="butt")
                axes.plot(place, middle, marker="o", markersize=6, color=COLOUR, markeredgecolor="white")
            axes.axhline(0, color=INK, linewidth=0.8)
            axes.set_xticks(range(len(mine)), [as_text(effect.level) for effect in mine])
            axes.set(xlabel=setting, xlim=(-0.5, len(mine) - 0.5))
            finish(axes)
        unit = "points" if metric.unit == "%" else metric.unit
        panels[0].set_ylabel(f"{metric.label}: effect" + (f" ({unit})" if unit else ""))
        panels[0].set_title("Main effects, the other settings averaged over")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def importance_figure(importance: Mapping[str, float], note: str) -> "Figure":
    """A bar a setting, the largest on top; ``note`` says on what the shares rest."""
    from matplotlib.figure import Figure

    settings = sorted(importance, key=lambda setting: importance[setting])
    with style():
        figure = Figure(figsize=(5.4, 0.9 + 0.3 * len(settings)), layout="constrained")
        axes = figure.subplots()
        axes.barh(settings, [100 * importance[setting] for setting in settings], color=COLOUR, height=0.6)
        axes.set(xlabel="share of the outcome that a setting tells (%)")
        axes.set_title(note)
        finish(axes)
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def pareto_figure(points: Sequence["Point"], metrics: Sequence["MetricLabel"], split: str = "validation") -> "Figure":
    """The first objective over the second, measured on ``split``; those that nothing beats are solid, joined and named.

    Raises:
        ValueError: no cell has every objective yet.
    """
    from matplotlib.figure import Figure

    if not points:
        raise ValueError("nothing to draw: no cell has every objective yet")
    upward, across = metrics[:2]
    with style():
        figure = Figure(figsize=(4.6, 3.4), layout="constrained")
        axes = figure.subplots()
        for point in points:
            y, x = (metric.factor * value for metric, value in zip((upward, across), point.values, strict=False))
            face = COLOUR if point.on_front else "white"
            axes.plot(x, y, marker="o", markersize=5.5, color=COLOUR, markerfacecolor=face, linestyle="", zorder=3)
            if point.on_front:
                axes.annotate(point.cell, (x, y), (5, -3), textcoords="offset points", fontsize=7.5, va="top")
        front = sorted((point.values[1], point.values[0]) for point in points if point.on_front)
        axes.plot(
            [across.factor * x for x, _ in front], [upward.factor * y for _, y in front], color=BEST, linewidth=1.2
        )
        axes.margins(x=0.12, y=0.1)
        axes.set(xlabel=_measured(across, split), ylabel=_measured(upward, split))
        axes.set_title("Solid: no other cell is better in all")
        finish(axes)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def _measured(metric: "MetricLabel", split: str) -> str:
    """A metric with the pairs that it is of, if it is of any."""
    return metric.title if metric.name in OF_NO_PAIRS else f"{split} {metric.title}"
