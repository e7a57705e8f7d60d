"""Parallel coordinates of a study's cells."""

from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from workbench.figures.style import INK, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from workbench.views.parallel import Parallel

AXIS_IN, MOST_IN, HEIGHT_IN = 1.6, 9.6, 3.7
LETTER_IN, LABEL_WIDTH = 0.07, 16
SHADES, FADED = "viridis", "#DADADA"
MOST_WORDS = 12


def parallel_figure(view: "Parallel", kept_N: "NDArray[np.bool_]", colour_by: str) -> "Figure":
    """A line a cell, coloured by one axis; those that a brush leaves out are pale, and behind.

    Args:
        colour_by: the name of the axis.
    """
    import seaborn
    from matplotlib.figure import Figure

    num_axes = len(view.axes)
    shades = seaborn.color_palette(SHADES, as_cmap=True)
    by = next(axis for axis in view.axes if axis.name == colour_by)
    with style():
        figure = Figure(figsize=(min(MOST_IN, 1.2 + AXIS_IN * num_axes), HEIGHT_IN))
        longest = max(map(len, view.axes[0].words), default=0)
        width = figure.get_figwidth()
        figure.subplots_adjust((0.6 + LETTER_IN * longest) / width, 0.2, 1 - 0.6 / width, 0.84)
        axes = figure.subplots()
        height_AN = np.stack([axis.height_N for axis in view.axes])
        for line in sorted(range(len(view.lines)), key=lambda line: bool(kept_N[line])):
            is_kept = bool(kept_N[line])
            height = by.height_N[line]
            colour = shades(0.92 * (height if np.isfinite(height) else 0)) if is_kept else FADED
            axes.plot(
                range(num_axes),
                height_AN[:, line],
                color=colour,
                linewidth=2.0 if is_kept else 1.0,
                marker="o",
                markersize=4,
                zorder=3 if is_kept else 2,
                clip_on=False,
            )
        for place, axis in enumerate(view.axes):
            axes.axvline(place, color=INK, linewidth=0.9, zorder=1)
            low, high = axis.limits
            if axis.words:
                for number, word in enumerate(axis.words[:MOST_WORDS]):
                    side, align = (-0.04, "right") if place == 0 else (0.04, "left")
                    axes.text(place + side, (number - low) / (high - low), word, fontsize=7.5, ha=align, va="center")
            else:
                axes.text(place, 1.04, f"{high:.4g}", fontsize=7.5, ha="center")
                axes.text(place, -0.04, f"{low:.4g}", fontsize=7.5, ha="center", va="top")
        labels = [fill(axis.label, LABEL_WIDTH, break_long_words=False) for axis in view.axes]
        axes.set_xticks(range(num_axes), labels)
        axes.tick_params(axis="x", length=0, pad=14)
        axes.set(xlim=(-0.05, num_axes - 0.95), ylim=(0, 1), yticks=[])
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_title(f"{int(kept_N.sum())} of {len(view.lines)} cells; colour: {by.label}", pad=18)
    return figure
