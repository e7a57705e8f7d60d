"""The picture of ``workbench runs show --architecture --over-time``: how a run's masks form.

Shape letters: N snapshots, K layers of the teacher.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workbench.figures.architecture import CHANNELS, EMBEDDING, HEADS, TITLES
from workbench.figures.style import FAINT, INK, finish, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.config.shape import Tower
    from workbench.views.mask_timeline import MaskTimeline

WIDTH_IN, CURVE_IN, STRIP_IN, REST_IN = 7.6, 1.6, 0.2, 1.3
ROW_IN = 0.13  # height of a layer
MIN_ROWS = 6  # of a heatmap, so that its label has room
LEARNING = "#F0F0F0"
PARTS = (("emb.", EMBEDDING), ("heads", HEADS), ("FFN", CHANNELS))


def mask_timeline_figure(view: "MaskTimeline") -> "Figure":
    """Sparsity against its target above; below, how open the embedding and every layer of each tower are."""
    from matplotlib.figure import Figure

    num_rows = max((MIN_ROWS, *(len(densities.heads_KN) for densities in view.towers.values())))
    heights = [CURVE_IN, STRIP_IN, ROW_IN * num_rows, ROW_IN * num_rows]
    with style():
        figure = Figure(figsize=(WIDTH_IN, REST_IN + sum(heights)))
        figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.04)
        grid = figure.add_gridspec(4, max(1, len(view.towers)), height_ratios=heights)
        draw_sparsity(figure.add_subplot(grid[0, :]), view)
        columns = [[figure.add_subplot(grid[row, column]) for row in (1, 2, 3)] for column in range(len(view.towers))]
        for column, tower in zip(columns, view.towers, strict=True):
            draw_densities(column, view, tower)
        if columns:
            _label(figure, columns)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once: another pass at every save would move things a little
    return figure


def draw_sparsity(axes: "Axes", view: "MaskTimeline") -> None:
    """Both lines in per cent of the teacher's weights; grey while masks are learnt."""
    steps = view.sparsity.step
    for number, learning in enumerate(view.learning_N[:-1]):
        if learning:
            axes.axvspan(steps[number], steps[number + 1], color=LEARNING, linewidth=0, zorder=0)
    axes.plot(
        view.target.step, 100 * view.target.value, color=INK, linestyle=(0, (3, 2)), linewidth=1.2, label="target"
    )
    axes.plot(steps, 100 * view.sparsity.value, color="#D55E00", linewidth=1.8, label="sparsity", clip_on=False)
    axes.set(xlim=(steps[0], steps[-1]), ylim=(0, 100), yticks=[0, 25, 50, 75, 100])
    axes.set_ylabel("weights gone (%)")
    axes.set_title("Attention and FFN weights of the teacher that are gone (grey: masks are learnt)")
    axes.legend(loc="lower right")
    stages = np.unique(view.stage_N)
    for stage in stages if len(stages) > 1 else ():
        begin = steps[view.stage_N == stage][0]
        axes.axvline(begin, color=FAINT, linewidth=0.8, linestyle=":")
        axes.annotate(f"stage {stage}", (begin, 100), (3, -3), textcoords="offset points", va="top", fontsize=8)
    finish(axes)


def draw_densities(panels: "list[Axes]", view: "MaskTimeline", tower: "Tower") -> None:
    """One tower in three panels: white where nothing is left, in full colour where all is there."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import MaxNLocator

    densities = view.towers[tower]
    shares = (densities.embedding_N[None], densities.heads_KN, densities.channels_KN)
    for axes, share_KN, (name, colour) in zip(panels, shares, PARTS, strict=True):
        rows = np.arange(len(share_KN) + 1) - 0.5
        shades = LinearSegmentedColormap.from_list(name, ["white", colour])
        axes.pcolormesh(_edges(view.sparsity.step), rows, 100 * share_KN, cmap=shades, vmin=0, vmax=100)
        axes.grid(visible=False)
        axes.tick_params(labelbottom=axes is panels[-1], length=3)
        axes.set_yticks([])
        if len(share_KN) > 1:
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 3, 5, 10]))
            axes.tick_params(axis="y", labelsize=7)
    panels[0].set_title(TITLES[tower])
    panels[-1].set_xlabel("training step")


def _label(figure: "Figure", columns: "list[list[Axes]]") -> None:
    """What the rows of panels are, to the left, and what their shades mean, to the right."""
    for axes, name in zip(columns[0], ("embedding", "heads of layer", "FFN of layer"), strict=True):
        axes.set_ylabel(name, fontsize=8)
    columns[0][0].yaxis.label.set(rotation=0, ha="right", va="center")
    for row in (1, 2):
        panels = [column[row] for column in columns]
        bar = figure.colorbar(panels[-1].collections[0], ax=panels, ticks=[0, 50, 100], aspect=12, pad=0.015)
        bar.set_label("left (%)")
        bar.outline.set_visible(False)


def _edges(steps_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """Where one snapshot's column ends and the next one's begins: half-way between the two."""
    middles = (steps_N[1:] + steps_N[:-1]) / 2
    return np.concatenate([steps_N[:1], middles, steps_N[-1:]]).astype(np.float64)
