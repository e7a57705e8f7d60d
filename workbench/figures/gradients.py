"""The picture of ``workbench runs show --gradients``: each loss's share of the gradient, and who fights whom."""

from collections import Counter
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from workbench.figures.style import INK, finish, palette, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.views.gradients import GradientsView

SIZE_IN = (8.0, 3.4)
ROOMY = 5  # losses that fit this size; the figure grows for every one more
GROWTH_IN = (0.75, 0.25)  # width and height
MARKERS = "osD^vPX*<>h"
STROKES = ("-", "--", ":", "-.")
DIVERGING = "vlag_r"  # red against blue, which people with any common colour blindness can tell apart; white at 0
CURSOR, PAIRS = "cursor", "pairs"  # what moves with the step
DARK = 0.6  # beyond this cosine a cell is so dark that its number is white


def gradients_figure(view: "GradientsView") -> "Figure":
    """Left, the share of every loss over the steps; right, the newest cosines between them, if there are several."""
    from matplotlib.figure import Figure

    num_losses = len(view.losses)
    num_more = max(0, num_losses - ROOMY)
    with style():
        figure = Figure(figsize=(SIZE_IN[0] + num_more * GROWTH_IN[0], SIZE_IN[1] + num_more * GROWTH_IN[1]))
        figure.set_layout_engine("constrained", w_pad=0.1)
        if num_losses > 1:
            left, right = figure.subplots(1, 2, width_ratios=[5, 2 + min(num_losses, 4) / 2])
            draw_cosines(right, view)
        else:
            left = figure.subplots()
        draw_shares(left, view)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once: another pass at every save would move things a little
    return figure


def gradients_over_time_figure(view: "GradientsView") -> "Figure":
    """The share of every loss and the cosine of every two of them over the steps, and the cosines at the view's step.

    A line marks that step.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(8.6, 5.6))
        figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
        grid = figure.add_gridspec(2, 2, width_ratios=[5, 4])
        shares, cosines = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0])
        draw_shares(shares, view)
        shares.legend(loc="upper right", ncols=2, handlelength=2.2)  # in place of the one beside
        draw_cosines_over_time(cosines, view)
        if len(view.losses) > 1:
            draw_cosines(figure.add_subplot(grid[:, 1]), view)
        for axes in (shares, cosines):
            axes.axvline(view.step, color=INK, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1, gid=CURSOR)
        shares.set_xlabel("")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once: another pass at every save would move things a little
    return figure


def move_to_step(figure: "Figure", view: "GradientsView") -> bool:
    """Lets a picture of :func:`gradients_over_time_figure` show another step of the same run, without drawing it anew.

    Returns:
        Whether it could: at that step the same losses must be on as at the one that it shows.
    """
    if not any(axes.get_gid() == _pairs(view) for axes in figure.axes):
        return False
    for axes in figure.axes:
        for line in axes.get_lines():
            if line.get_gid() == CURSOR:
                line.set_xdata([view.step, view.step])
        if axes.get_gid() == _pairs(view):
            pairs_KK = view.tower_cosine_KK[1:, :-1]
            mesh = axes.collections[0]
            mesh.set_array(np.ma.masked_array(pairs_KK, np.triu(np.ones_like(pairs_KK, dtype=bool), k=1)))
            for text in list(axes.texts):
                text.remove()
            with style():
                _write_cosines(axes, view)
    return True


def _pairs(view: "GradientsView") -> str:
    return f"{PAIRS}: {', '.join(view.losses)}"


def draw_cosines_over_time(axes: "Axes", view: "GradientsView") -> None:
    """A line for any two losses, named at its end; below 0 they fight."""
    from matplotlib.ticker import MaxNLocator

    names = {pair: f"{pair[0]}, {pair[1]}" for pair, series in view.cosines.items() if len(series)}
    colours = palette(list(names.values()))
    for (pair, name), marker in zip(names.items(), cycle(MARKERS), strict=False):
        series = view.cosines[pair]
        axes.plot(
            series.step,
            series.value,
            label=name,
            color=colours[name],
            linewidth=1.4,
            marker=marker,
            markersize=4.5,
            markeredgecolor="white",
            markeredgewidth=0.6,
            clip_on=False,
        )
    axes.axhspan(-1, 0, color="#F6ECEA", linewidth=0, zorder=0)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xlabel="training step", ylabel="cosine", ylim=(-1, 1), yticks=[-1, -0.5, 0, 0.5, 1])
    axes.set_xlim(0, max(view.steps[-1], 2))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_title("Between their gradients (shaded: they fight)")
    if names:
        key = axes.legend(
            loc="lower left", bbox_to_anchor=(1.12, 0), borderaxespad=0, ncols=2, handlelength=1.8, fontsize=8
        )
        key.set_in_layout(False)  # it stands below the heatmap
    finish(axes)


def draw_shares(axes: "Axes", view: "GradientsView") -> None:
    """A line a loss, in per cent of the summed norms; the key is in the order of the newest shares."""
    from matplotlib.ticker import MaxNLocator

    colours = palette(list(view.shares))
    uses: Counter[str] = Counter()
    for (loss, series), marker in zip(view.shares.items(), cycle(MARKERS), strict=False):
        colour = colours[loss]
        axes.plot(
            series.step,
            100 * series.value,
            label=loss,
            color=colour,
            linestyle=STROKES[uses[colour] % len(STROKES)],
            linewidth=1.8,
            marker=marker,
            markersize=5.5,
            markeredgecolor="white",
            markeredgewidth=0.7,
            clip_on=False,
            zorder=3,
        )
        uses[colour] += 1
    axes.set(xlabel="training step", ylabel="share of the summed norms (%)", ylim=(0, None))
    axes.set_xlim(0, max(view.steps[-1], 2))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_title("Gradient at the tower weights, by loss")
    newest_first = sorted(view.shares, key=lambda loss: -view.shares[loss].value[-1])
    lines = {line.get_label(): line for line in axes.get_lines()}
    handles = [lines[loss] for loss in newest_first]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.02), handlelength=2.2, borderaxespad=0)
    finish(axes)


def draw_cosines(axes: "Axes", view: "GradientsView") -> None:
    """The cosine of every pair of losses once: red where they fight, blue where they agree."""
    import seaborn

    pairs_KK = view.tower_cosine_KK[1:, :-1]
    hidden_KK = np.triu(np.ones_like(pairs_KK, dtype=bool), k=1)
    seaborn.heatmap(
        pairs_KK,
        mask=hidden_KK,
        vmin=-1,
        vmax=1,
        cmap=DIVERGING,
        square=True,
        linewidths=1.5,
        linecolor="white",
        xticklabels=view.losses[:-1],
        yticklabels=view.losses[1:],
        cbar_kws={"label": "cosine", "shrink": 0.7, "anchor": (0, 1), "ticks": [-1, -0.5, 0, 0.5, 1]},
        ax=axes,
    )
    _write_cosines(axes, view)
    axes.set_gid(_pairs(view))
    axes.set_anchor("N")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", rotation=0)
    if len(view.losses) > ROOMY:
        axes.set_xticks(axes.get_xticks(), view.losses[:-1], rotation=45, ha="right", rotation_mode="anchor")


def _write_cosines(axes: "Axes", view: "GradientsView") -> None:
    """The numbers in the cells, and the step above them."""
    pairs_KK = view.tower_cosine_KK[1:, :-1]
    for row, column in zip(*np.tril_indices(len(pairs_KK)), strict=True):
        cosine = pairs_KK[row, column]
        text = f"{cosine:z.2f}".replace("-", "\N{MINUS SIGN}")
        ink = "white" if abs(cosine) > DARK else INK
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=ink, fontsize=7)
    axes.set_title(f"Who fights whom (step {view.step})")
