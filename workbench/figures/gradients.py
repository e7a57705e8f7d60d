"""The plane as one student picture feels it: CLIP's pull as arrows, gradient distillation's price as a shade."""

from collections import Counter
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from workbench.figures.style import FAINT, INK, finish, palette, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.views.gradients import GradientField, GradientsView, Pairs


# The picture of ``workbench runs show --gradients``: each loss's share of the gradient, and who fights whom.

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
    colors = palette(list(names.values()))
    for (pair, name), marker in zip(names.items(), cycle(MARKERS), strict=False):
        series = view.cosines[pair]
        axes.plot(
            series.step,
            series.value,
            label=name,
            color=colors[name],
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

    colors = palette(list(view.shares))
    uses: Counter[str] = Counter()
    for (loss, series), marker in zip(view.shares.items(), cycle(MARKERS), strict=False):
        colour = colors[loss]
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


FIELD_SIZE_IN = (8.4, 4.2)
STUDENT, TEACHER = "#D55E00", "#0072B2"
LONGEST = 0.75  # of an arrow of the picture itself, in units of the plane


def gradient_field_figure(view: "GradientField") -> "Figure":
    """Left, the student's plane around the chosen picture; right, the teacher's pairs with the pull that is wanted."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=FIELD_SIZE_IN)
        figure.subplots_adjust(0.04, 0.08, 0.97, 0.9, wspace=0.22)
        left, right = figure.subplots(1, 2, width_ratios=[1.22, 1])
        strength = max(1e-9, *(float(np.linalg.norm(pull_D)) for pull_D in (view.student_pull_D, view.teacher_pull_D)))
        _draw_field(figure, left, view)
        _draw_pairs(left, view.student, view.index, STUDENT)
        _draw_pull(left, view.student.image_BD[view.index], view.student_pull_D / strength, STUDENT)
        _draw_pull(left, view.student.image_BD[view.index], view.teacher_pull_D / strength, TEACHER)
        _draw_pairs(right, view.teacher, view.index, TEACHER)
        _draw_pull(right, view.teacher.image_BD[view.index], view.teacher_pull_D / strength, TEACHER)
        left.set_title(f"Student at 1/\N{GREEK SMALL LETTER TAU} = {view.scale:.3g}: GD's price {view.price:.3g}")
        right.set_title(f"Teacher at 1/\N{GREEK SMALL LETTER TAU} = {view.teacher_scale:.3g}: the pull that is wanted")
        for axes in (left, right):
            reach = view.axis_N[-1]
            axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
            axes.grid(visible=False)
    return figure


def _draw_field(figure: "Figure", axes: "Axes", view: "GradientField") -> None:
    """GD's price as a shade, on a logarithmic scale; CLIP's pull as arrows of one length, faint where it is weak."""
    reach = view.axis_N[-1]
    shade = axes.imshow(
        np.log10(view.price_NN + 1e-12),
        extent=(-reach, reach, -reach, reach),
        origin="lower",
        interpolation="bicubic",
        cmap="YlGnBu",
        alpha=0.75,
    )
    bar = figure.colorbar(shade, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label("log10 of GD's price there (pale: as the teacher)")
    bar.outline.set_visible(False)
    length_NN = np.linalg.norm(view.pull_NND, axis=-1)
    unit_NND = view.pull_NND / np.maximum(length_NN, 1e-12)[..., None]
    strength_NN = 0.15 + 0.85 * np.sqrt(length_NN / max(length_NN.max(), 1e-12))
    axes.quiver(
        view.axis_N,
        view.axis_N,
        unit_NND[..., 0],
        unit_NND[..., 1],
        color=INK,
        alpha=strength_NN.ravel(),
        scale=34,
        width=0.003,
        pivot="mid",
    )


def _draw_pairs(axes: "Axes", pairs: "Pairs", index: int, colour: str) -> None:
    """Pictures as dots, texts as diamonds, a line between the two of a pair; the chosen picture larger."""
    from matplotlib.patches import Circle

    axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=FAINT, linewidth=0.8))
    for number, (image_D, text_D) in enumerate(zip(pairs.image_BD, pairs.text_BD, strict=True)):
        axes.plot(*zip(image_D, text_D, strict=True), color=colour, linewidth=1.0, alpha=0.5, zorder=3)
        size = 11 if number == index else 6.5
        axes.plot(*image_D, marker="o", markersize=size, color=colour, markeredgecolor="white", zorder=5)
        axes.plot(*text_D, marker="D", markersize=5.5, color="white", markeredgecolor=colour, zorder=4)
        axes.annotate(str(number), 1.16 * text_D, ha="center", va="center", fontsize=8, color=colour)


def _draw_pull(axes: "Axes", place_D: "np.ndarray", pull_D: "np.ndarray", colour: str) -> None:
    axes.annotate(
        "",
        tuple(place_D + LONGEST * pull_D),
        tuple(place_D),
        arrowprops={
            "arrowstyle": "-|>",
            "color": colour,
            "linewidth": 2.4,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 11,
        },
        zorder=6,
    )
