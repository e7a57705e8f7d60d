"""The plane as one student picture feels it: CLIP's pull as arrows, gradient distillation's price as a shade."""

from typing import TYPE_CHECKING

import numpy as np

from workbench.figures.style import FAINT, INK, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.views.gradient_field import GradientField, Pairs

SIZE_IN = (8.4, 4.2)
STUDENT, TEACHER = "#D55E00", "#0072B2"
LONGEST = 0.75  # of an arrow of the picture itself, in units of the plane


def gradient_field_figure(view: "GradientField") -> "Figure":
    """Left, the student's plane around the chosen picture; right, the teacher's pairs with the pull that is wanted."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=SIZE_IN)
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
