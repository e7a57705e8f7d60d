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
    for row, column in zip(*np.where(~hidden_KK), strict=True):
        cosine = pairs_KK[row, column]
        text = f"{cosine:z.2f}".replace("-", "\N{MINUS SIGN}")
        ink = "white" if abs(cosine) > DARK else INK
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=ink, fontsize=7)
    axes.set_title(f"Who fights whom (step {view.step})")
    axes.set_anchor("N")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", rotation=0)
    if len(view.losses) > ROOMY:
        axes.set_xticks(axes.get_xticks(), view.losses[:-1], rotation=45, ha="right", rotation_mode="anchor")
