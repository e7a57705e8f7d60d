"""Gradient shares and conflicts between losses, and the two-dimensional gradient field of GD."""

from collections import Counter
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.figures.style import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    Options,
    count_steps,
    finish,
    legend_outside,
    mark_step,
    move_step,
    new_figure,
    palette,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.views.gradients import GradientField, GradientsView, Pairs

ROOMY = 5  # losses that fit the smallest figure
GROWTH_IN = (0.75, 0.25)  # width and height for each further loss
MARKERS = "osD^vPX*<>h"
STROKES = ("-", "--", ":", "-.")
DIVERGING = "vlag_r"  # red to blue, white at 0; distinguishable with color blindness
DARK = 0.6  # absolute cosine above which a cell's text is white
LINE: Options = {"markeredgecolor": "white", "markeredgewidth": 0.7, "clip_on": False, "zorder": 3}


def gradients_figure(view: "GradientsView") -> "Figure":
    """The figure of ``runs show --gradients``: shares over training and, for several losses, the newest cosines."""
    num_losses = len(view.losses)
    num_more = max(0, num_losses - ROOMY)
    with new_figure(8.0 + num_more * GROWTH_IN[0], 3.4 + num_more * GROWTH_IN[1], w_pad=0.1) as figure:
        if num_losses > 1:
            left, right = figure.subplots(1, 2, width_ratios=[5, 2 + min(num_losses, 4) / 2])
            draw_cosines(right, view)
        else:
            left = figure.subplots()
        draw_shares(left, view)
    return figure


def gradients_over_time_figure(view: "GradientsView", earlier: "Figure | None" = None) -> "Figure":
    """Shares and pairwise cosines over training, and the matrix of cosines at the view's step, marked by a line.

    Args:
        earlier: a figure of the same run, updated in place if the same losses were active at its step.
    """
    if earlier and any(axes.get_gid() == _pairs(view) for axes in earlier.axes):
        _move(earlier, view)
        return earlier
    with new_figure(8.6, 5.6, w_pad=0.1, h_pad=0.08) as figure:
        grid = figure.add_gridspec(2, 2, width_ratios=[5, 4])
        shares, cosines = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0])
        draw_shares(shares, view)
        shares.legend(loc="upper right", ncols=2, handlelength=2.2)  # replaces the legend outside the axes
        draw_cosines_over_time(cosines, view)
        if len(view.losses) > 1:
            draw_cosines(figure.add_subplot(grid[:, 1]), view)
        for axes in (shares, cosines):
            mark_step(axes, view.step)
        shares.set_xlabel("")
    return figure


def _move(figure: "Figure", view: "GradientsView") -> None:
    move_step(figure, view.step)
    axes = next(axes for axes in figure.axes if axes.get_gid() == _pairs(view))
    axes.collections[0].set_array(_lower(view))
    for text in list(axes.texts):
        text.remove()
    with style():
        _write_cosines(axes, view)


def _pairs(view: "GradientsView") -> str:
    """The gid of a matrix of cosines, equal for matrices of the same losses."""
    return f"pairs: {', '.join(view.losses)}"


def draw_cosines_over_time(axes: "Axes", view: "GradientsView") -> None:
    """One line for each pair of losses; negative cosines are shaded."""
    names = {pair: f"{pair[0]}, {pair[1]}" for pair, series in view.cosines.items() if len(series)}
    colors = palette(list(names.values()))
    for (pair, name), marker in zip(names.items(), cycle(MARKERS), strict=False):
        options: Options = {"color": colors[name], "linewidth": 1.4, "marker": marker, "markersize": 4.5}
        axes.plot(view.cosines[pair].step, view.cosines[pair].value, label=name, **options | LINE)
    axes.axhspan(-1, 0, color="#F6ECEA", linewidth=0, zorder=0)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(ylabel="cosine", ylim=(-1, 1), yticks=[-1, -0.5, 0, 0.5, 1])
    count_steps(axes, view.steps[-1])
    axes.set_title("Cosine between gradients (shaded: conflict)")
    if names:
        below: Options = {"loc": "lower left", "bbox_to_anchor": (1.12, 0), "borderaxespad": 0}
        key = axes.legend(ncols=2, handlelength=1.8, fontsize=8, **below)
        key.set_in_layout(False)  # placed below the heatmap, outside these axes
    finish(axes)


def draw_shares(axes: "Axes", view: "GradientsView") -> None:
    """One line for each loss, in percent of the summed norms; the legend is ordered by the newest shares."""
    colors = palette(list(view.shares))
    uses: Counter[str] = Counter()
    for (loss, series), marker in zip(view.shares.items(), cycle(MARKERS), strict=False):
        color = colors[loss]
        stroke = STROKES[uses[color] % len(STROKES)]  # more losses than colors: lines of one color differ in stroke
        uses[color] += 1
        options: Options = {"color": color, "linestyle": stroke, "linewidth": 1.8, "marker": marker, "markersize": 5.5}
        axes.plot(series.step, 100 * series.value, label=loss, **options | LINE)
    axes.set(ylabel="share of the gradient norm (%)", ylim=(0, None))
    count_steps(axes, view.steps[-1])
    axes.set_title("Gradient norm at the tower weights, by loss")
    lines = {line.get_label(): line for line in axes.get_lines()}
    newest_first = sorted(view.shares, key=lambda loss: -view.shares[loss].value[-1])
    legend_outside(axes, handles=[lines[loss] for loss in newest_first], handlelength=2.2)
    finish(axes)


def _lower(view: "GradientsView") -> "np.ma.MaskedArray[Any, Any]":
    """The cosines of each pair of losses once: rows are all losses but the first, columns all but the last."""
    pairs_KK = view.tower_cosine_KK[1:, :-1]
    return np.ma.masked_array(pairs_KK, np.triu(np.ones_like(pairs_KK, dtype=bool), k=1))


def draw_cosines(axes: "Axes", view: "GradientsView") -> None:
    """The lower triangle of the cosines between losses: red for conflict, blue for agreement."""
    import seaborn

    pairs_KK = _lower(view)
    seaborn.heatmap(
        pairs_KK.data,
        mask=pairs_KK.mask,
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
    """Write the cosines into the cells, and the step into the title."""
    pairs_KK = _lower(view)
    for row, column in zip(*np.nonzero(~pairs_KK.mask), strict=True):
        cosine = pairs_KK[row, column]
        text = f"{cosine:z.2f}".replace("-", "\N{MINUS SIGN}")
        ink = "white" if abs(cosine) > DARK else INK
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=ink, fontsize=7)
    axes.set_title(f"Gradient conflicts between losses (step {view.step})")


STUDENT, TEACHER = ORANGE, BLUE
LONGEST = 0.75  # length of the longest arrow at an image, in data units


def gradient_field_figure(view: "GradientField") -> "Figure":
    """Left, the field of the chosen student image with the student's pairs; right, the teacher's pairs."""
    with new_figure(8.4, 4.2, is_placed=True) as figure:
        figure.subplots_adjust(0.04, 0.08, 0.97, 0.9, wspace=0.22)
        left, right = figure.subplots(1, 2, width_ratios=[1.22, 1])
        descents = (view.student_descent_D, view.teacher_descent_D)
        longest = max(1e-9, *(float(np.linalg.norm(descent_D)) for descent_D in descents))
        _draw_field(figure, left, view)
        _draw_pairs(left, view.student, view.index, STUDENT)
        _draw_descent(left, view.student.image_BD[view.index], view.student_descent_D / longest, STUDENT)
        _draw_descent(left, view.student.image_BD[view.index], view.teacher_descent_D / longest, TEACHER)
        _draw_pairs(right, view.teacher, view.index, TEACHER)
        _draw_descent(right, view.teacher.image_BD[view.index], view.teacher_descent_D / longest, TEACHER)
        left.set_title(f"Student at 1/\N{GREEK SMALL LETTER TAU} = {view.scale:.3g}: GD loss {view.gd_loss:.3g}")
        right.set_title(f"Teacher at 1/\N{GREEK SMALL LETTER TAU} = {view.teacher_scale:.3g}: target gradient")
        for axes in (left, right):
            reach = view.axis_N[-1]
            axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
            axes.grid(visible=False)
    return figure


def _draw_field(figure: "Figure", axes: "Axes", view: "GradientField") -> None:
    """GD's loss as a shade on a logarithmic scale; CLIP's descent direction as arrows, faint for small gradients."""
    reach = view.axis_N[-1]
    shade = axes.imshow(
        np.log10(view.gd_loss_NN + 1e-12),
        extent=(-reach, reach, -reach, reach),
        origin="lower",
        interpolation="bicubic",
        cmap="YlGnBu",
        alpha=0.75,
    )
    bar = figure.colorbar(shade, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label("log10 of the GD loss (pale: the teacher's gradient)")
    bar.outline.set_visible(False)
    length_NN = np.linalg.norm(view.descent_NND, axis=-1)
    unit_NND = view.descent_NND / np.maximum(length_NN, 1e-12)[..., None]
    alpha_NN = 0.15 + 0.85 * np.sqrt(length_NN / max(length_NN.max(), 1e-12))
    options: Options = {"color": INK, "alpha": alpha_NN.ravel(), "scale": 34, "width": 0.003, "pivot": "mid"}
    axes.quiver(view.axis_N, view.axis_N, unit_NND[..., 0], unit_NND[..., 1], **options)


def _draw_pairs(axes: "Axes", pairs: "Pairs", index: int, color: str) -> None:
    """Images as dots and texts as diamonds, connected in pairs; the chosen image is larger."""
    from matplotlib.patches import Circle

    axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=FAINT, linewidth=0.8))
    for number, (image_D, text_D) in enumerate(zip(pairs.image_BD, pairs.text_BD, strict=True)):
        axes.plot(*zip(image_D, text_D, strict=True), color=color, linewidth=1.0, alpha=0.5, zorder=3)
        size = 11 if number == index else 6.5
        axes.plot(*image_D, marker="o", markersize=size, color=color, markeredgecolor="white", zorder=5)
        axes.plot(*text_D, marker="D", markersize=5.5, color="white", markeredgecolor=color, zorder=4)
        axes.annotate(str(number), 1.16 * text_D, ha="center", va="center", fontsize=8, color=color)


def _draw_descent(axes: "Axes", image_D: "np.ndarray", descent_D: "np.ndarray", color: str) -> None:
    arrow = {"arrowstyle": "-|>", "color": color, "linewidth": 2.4, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 11}
    axes.annotate("", tuple(image_D + LONGEST * descent_D), tuple(image_D), arrowprops=arrow, zorder=6)
