"""What a student keeps of each teacher layer (after TinyCLIP's figure 8), and what a run's masks cost in training.

Shape letters: N snapshots, K layers of the teacher.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workbench.figures.style import (
    BLUE,
    DASHED,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    OTHERS,
    Options,
    annotate,
    finish,
    legend_outside,
    new_figure,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.config.inheritance import Tower
    from workbench.views.architecture import Architecture, TowerChange
    from workbench.views.masks import MaskTimeline, Pruned

HEADS, CHANNELS, EMBEDDING = "#E69F00", GREEN, BLUE  # the paper's orange, green and blue
TITLES: dict["Tower", str] = {"image": "Image tower", "text": "Text tower"}
ROW_IN, KEY_IN = 0.19, 0.45  # heights of a row and of the key
ROWS_AROUND = 4  # rows besides the layers: title, column names, embedding and its name
MIDDLE = 0.11  # half the width of the layer numbers; a full bar has width 1
EDGE = 1 + MIDDLE
BAR = 0.72  # bar height as a share of a row
PALE, OUTLINE = 0.16, 0.75  # opacity
MAX_CELLS = 16  # with more heads than this, a bar has no divisions


def architecture_figure(view: "Architecture", earlier: "Figure | None" = None) -> "Figure":
    """The towers next to each other, one row for each layer: heads to the left, FFN channels to the right.

    The teacher's parts are pale, the parts that the student keeps solid. Layer 0 is at the bottom, above the embedding.

    Args:
        earlier: updated in place if it has the same towers with the same numbers of layers.

    Raises:
        ValueError: there is no transformer tower to draw.
    """
    if not view.towers:
        raise ValueError("nothing to draw: neither tower is a transformer that can be pruned")
    num_rows = ROWS_AROUND + max(change.teacher.num_layers for change in view.towers.values())
    layout = ", ".join(f"{tower} of {change.teacher.num_layers}" for tower, change in view.towers.items())
    if earlier and earlier.get_gid() == layout:
        with style():
            for axes in earlier.axes:
                axes.clear()
            _draw_towers(earlier.axes, view, num_rows)
            earlier.legends[0].get_texts()[1].set_text(_student(view.when))
        return earlier
    with new_figure(3.9 * len(view.towers), KEY_IN + ROW_IN * num_rows, w_pad=0.08, h_pad=0.04) as figure:
        figure.set_gid(layout)
        _draw_towers(figure.subplots(1, len(view.towers), squeeze=False)[0], view, num_rows)
        _add_key(figure, view.when)
    return figure


def _draw_towers(panels: "Iterable[Axes]", view: "Architecture", num_rows: int) -> None:
    for axes, (tower, change) in zip(panels, view.towers.items(), strict=True):
        draw_tower(axes, change, num_rows - 1)
        before, after = change.teacher.block_weights, change.student.block_weights
        axes.set_title(f"{TITLES[tower]}: {_number(before)} to {_number(after)} weights ({after / before:.0%})")


def draw_tower(axes: "Axes", change: "TowerChange", num_rows: int) -> None:
    """One tower: its embedding in row 0 and its K layers, numbered from 0, in rows 1 to K.

    Args:
        num_rows: of the axes; a tower with fewer rows is aligned to the top.
    """
    teacher, student = change.teacher, change.student
    top = teacher.num_layers + 1
    for side, name, kept, there, color in (
        (-1, "heads", student.heads, teacher.heads, HEADS),
        (1, "FFN channels", student.channels, teacher.channels, CHANNELS),
    ):
        _draw_side(axes, kept, there, side, color)
        _write(axes, side * EDGE, top - 0.15, f"{name}, of {there[0]:,}" if _alike(there) else name, -side)
    for row, left in enumerate(zip(student.heads, student.channels, strict=True), start=1):
        _write(axes, 0, row, str(row - 1), ink=INK if any(left) else FAINT)
    _write(axes, 0, top - 0.15, "layer")
    _draw_bars(axes, [0], [2 * EDGE * student.width / teacher.width], [2 * EDGE], -EDGE, EMBEDDING)
    _write(axes, EDGE + 0.03, 0, f"{student.width:,}", 1)
    _write(axes, -EDGE, -0.85, f"embedding channels, of {teacher.width:,}", 1)
    axes.set(xlim=(-EDGE - 0.16, EDGE + 0.34), ylim=(top + 0.4 - num_rows, top + 0.4))
    axes.axis("off")


def _draw_side(axes: "Axes", kept: Sequence[int], there: Sequence[int], side: int, color: str) -> None:
    """Bars from the middle outward for the heads (side -1) or FFN channels (side 1) of each layer."""
    rows = range(1, len(there) + 1)
    unit = side / max(1, *there)
    _draw_bars(axes, rows, [unit * count for count in kept], [unit * count for count in there], side * MIDDLE, color)
    if side < 0 and max(there) <= MAX_CELLS:
        ends = [(row, head) for row, count in zip(rows, there, strict=True) for head in range(1, count)]
        low, high = ([row + sign * BAR / 2 for row, _ in ends] for sign in (-1, 1))
        axes.vlines([side * MIDDLE + unit * head for _, head in ends], low, high, color="white", linewidth=0.9)
    for row, count, available in zip(rows, kept, there, strict=True):
        text = f"{count:,}" if _alike(there) else f"{count:,}/{available:,}"
        _write(axes, side * (EDGE + 0.03), row, text, side, INK if count else FAINT)


def _draw_bars(
    axes: "Axes", rows: Sequence[int], kept: Sequence[float], there: Sequence[float], start: float, color: str
) -> None:
    """Pale outlined bars for the teacher's parts, solid bars over them for the kept parts."""
    pale, edge = (color, PALE), (color, OUTLINE)
    there = [length or math.nan for length in there]  # NaN: no outline for an empty layer
    axes.barh(rows, there, BAR, left=start, facecolor=pale, edgecolor=edge, linewidth=0.7, label="teacher")
    axes.barh(rows, kept, BAR, left=start, color=color, linewidth=0, label="student")


def _write(axes: "Axes", x: float, y: float, text: str, side: int = 0, ink: str = INK) -> None:
    """Text to the left (-1) or right (1) of a point, or centered on it (0)."""
    axes.text(x, y, text, ha=("right", "center", "left")[side + 1], va="center", fontsize=7.5, color=ink)


def _add_key(figure: "Figure", when: str) -> None:
    from matplotlib.patches import Patch

    teacher = Patch(facecolor=(FAINT, PALE), edgecolor=(FAINT, OUTLINE), linewidth=0.7, label="teacher")
    student = Patch(facecolor=FAINT, linewidth=0, label=_student(when))
    figure.legend(handles=[teacher, student], loc="outside lower center", ncols=2, handlelength=1.6)


def _student(when: str) -> str:
    return f"student: {when}" if when else "student"


def _number(weights: int) -> str:
    return f"{weights / 1e6:.3g} M" if weights >= 1e6 else f"{weights / 1e3:.3g} k"


def _alike(counts: Sequence[int]) -> bool:
    return len(set(counts)) == 1


CURVE_IN, STRIP_IN, LAYER_IN, REST_IN = 1.6, 0.2, 0.13, 1.3  # heights: the curve, a strip, a layer, all else
MIN_ROWS = 6  # of a heatmap, to fit its label
LEARNING = "#F0F0F0"
STAGES = (BLUE, ORANGE, *OTHERS)
THRESHOLD = "size by threshold"  # gid
PARTS = (("emb.", EMBEDDING), ("heads", HEADS), ("FFN", CHANNELS))


def mask_timeline_figure(view: "MaskTimeline") -> "Figure":
    """Sparsity and its target above; below, the kept share of each tower's embedding, heads and FFN by layer."""
    num_rows = max((MIN_ROWS, *(len(densities.heads_KN) for densities in view.towers.values())))
    heights = [CURVE_IN, STRIP_IN, LAYER_IN * num_rows, LAYER_IN * num_rows]
    with new_figure(7.6, REST_IN + sum(heights), w_pad=0.06, h_pad=0.04) as figure:
        grid = figure.add_gridspec(4, max(1, len(view.towers)), height_ratios=heights)
        draw_sparsity(figure.add_subplot(grid[0, :]), view)
        columns = [[figure.add_subplot(grid[row, column]) for row in (1, 2, 3)] for column in range(len(view.towers))]
        for column, tower in zip(columns, view.towers, strict=True):
            draw_densities(column, view, tower)
        if columns:
            _label(figure, columns)
    return figure


def draw_sparsity(axes: "Axes", view: "MaskTimeline") -> None:
    """Sparsity and target in percent of the teacher's weights; gray while masks are being learned."""
    steps = view.sparsity.step
    for number, learning in enumerate(view.learning_N[:-1]):
        if learning:
            axes.axvspan(steps[number], steps[number + 1], color=LEARNING, linewidth=0, zorder=0)
    target, sparsity = 100 * view.target.value, 100 * view.sparsity.value
    axes.plot(view.target.step, target, color=INK, linestyle=DASHED, linewidth=1.2, label="target")
    axes.plot(steps, sparsity, color=ORANGE, linewidth=1.8, label="sparsity", clip_on=False)
    axes.set(xlim=(steps[0], steps[-1]), ylim=(0, 100), yticks=[0, 25, 50, 75, 100])
    axes.set_ylabel("sparsity (%)")
    axes.set_title("Removed attention and FFN weights of the teacher (gray: learning masks)")
    axes.legend(loc="lower right")
    stages = np.unique(view.stage_N)
    for stage in stages if len(stages) > 1 else ():
        first = steps[view.stage_N == stage][0]
        axes.axvline(first, color=FAINT, linewidth=0.8, linestyle=":")
        annotate(axes, f"stage {stage}", (first, 100), (3, -3), va="top")
    finish(axes)


def draw_densities(panels: "list[Axes]", view: "MaskTimeline", tower: "Tower") -> None:
    """One tower in three panels: white for 0 % kept, full color for 100 %."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import MaxNLocator

    densities, steps = view.towers[tower], view.sparsity.step
    # A column of the heat map reaches halfway to the next snapshot.
    edges = np.concatenate([steps[:1], (steps[1:] + steps[:-1]) / 2, steps[-1:]])
    shares = (densities.embedding_N[None], densities.heads_KN, densities.channels_KN)
    for axes, share_KN, (name, color) in zip(panels, shares, PARTS, strict=True):
        rows = np.arange(len(share_KN) + 1) - 0.5
        shades = LinearSegmentedColormap.from_list(name, ["white", color])
        axes.pcolormesh(edges, rows, 100 * share_KN, cmap=shades, vmin=0, vmax=100)
        axes.grid(visible=False)
        axes.tick_params(labelbottom=axes is panels[-1], length=3)
        axes.set_yticks([])
        if len(share_KN) > 1:
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 3, 5, 10]))
            axes.tick_params(axis="y", labelsize=7)
    panels[0].set_title(TITLES[tower])
    panels[-1].set_xlabel("training step")


def _label(figure: "Figure", columns: "list[list[Axes]]") -> None:
    """Row names to the left of the panels, color bars to the right."""
    for axes, name in zip(columns[0], ("embedding", "heads of layer", "FFN of layer"), strict=True):
        axes.set_ylabel(name, fontsize=8)
    columns[0][0].yaxis.label.set(rotation=0, ha="right", va="center")
    for row in (1, 2):
        panels = [column[row] for column in columns]
        bar = figure.colorbar(panels[-1].collections[0], ax=panels, ticks=[0, 50, 100], aspect=12, pad=0.015)
        bar.set_label("kept (%)")
        bar.outline.set_visible(False)


def pruned_figure(view: "Pruned") -> "Figure":
    """A run's metric against sparsity: hollow while masks are learned, filled when fixed; one color for each stage."""
    factor = view.metric.factor
    with new_figure(7.6, 3.4) as figure:
        axes = figure.subplots()
        path = [(100 * point.sparsity, factor * point.value) for point in view.points]
        axes.plot(*zip(*path, strict=True), color=FAINT, linewidth=0.9, zorder=1)
        kinds = dict.fromkeys((point.stage, learning) for point in view.points for learning in (True, False))
        for stage, learning in kinds:
            mine = [at for at, p in zip(path, view.points, strict=True) if (p.stage, p.learning) == (stage, learning)]
            color = STAGES[(stage - 1) % len(STAGES)]
            options: Options = {
                "color": color,
                "markerfacecolor": "white" if learning else color,
                "markersize": 6,
                "zorder": 3,
            }
            label = f"stage {stage}, masks {'learning' if learning else 'fixed'}"
            if mine:
                axes.plot(*zip(*mine, strict=True), marker="o", linestyle="", label=label, **options)
        axes.set(xlabel="sparsity: removed attention and FFN weights of the teacher (%)", xlim=(0, 100))
        axes.set(ylabel=f"{view.metric.title}, {view.split}", ylim=(0, None))
        axes.set_title("Student quality by sparsity")
        legend_outside(axes)
        finish(axes)
    return figure


def threshold_figure(
    thresholds_N: NDArray[np.float64],
    sizes_N: NDArray[np.float64],
    chosen: float,
    expected: float,
    earlier: "Figure | None" = None,
) -> "Figure":
    """The kept share of the weights by threshold, the chosen threshold, and the share that the run expects to keep.

    Args:
        thresholds_N: on P(z ≠ 0), ascending.
        sizes_N: kept shares in [0, 1], one for each threshold.
        chosen: the threshold to mark.
        expected: a share in [0, 1].
        earlier: a figure of this function is updated in place.
    """
    if earlier and earlier.get_gid() == THRESHOLD:
        with style():
            earlier.axes[0].clear()
            _draw_threshold(earlier.axes[0], thresholds_N, sizes_N, chosen, expected)
        return earlier
    with new_figure(7.6, 3.4) as figure:
        figure.set_gid(THRESHOLD)
        _draw_threshold(figure.subplots(), thresholds_N, sizes_N, chosen, expected)
    return figure


def _draw_threshold(
    axes: "Axes", thresholds_N: NDArray[np.float64], sizes_N: NDArray[np.float64], chosen: float, expected: float
) -> None:
    axes.step(thresholds_N, 100 * sizes_N, where="post", color=BLUE, linewidth=1.8)
    axes.axhline(100 * expected, color=INK, linewidth=1, linestyle=DASHED)
    axes.text(0.995, 100 * expected + 1.5, "expected by the run", ha="right", fontsize=8)
    place = int(np.searchsorted(thresholds_N, chosen, side="right")) - 1
    kept = 100 * float(sizes_N[max(0, place)])
    axes.plot(chosen, kept, marker="o", markersize=8, color=BLUE, markeredgecolor="white")
    axes.axvline(chosen, color=FAINT, linewidth=0.9, linestyle=DASHED)
    annotate(axes, f"{kept:.1f} %", (chosen, kept), (8, 6), weight="bold", fontsize=9)
    axes.set(xlabel="threshold on the probability that a part is kept", xlim=(0, 1), ylim=(0, 105))
    axes.set_ylabel("kept attention and FFN weights (%)")
    axes.set_title("Student size by pruning threshold")
    finish(axes)
