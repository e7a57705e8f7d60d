"""Affinity matrices with their differences, affinity sharpness by temperature, and GD's weight by temperature.

Shape letters: M rows and columns of a matrix, N scales.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.figures.style import FAINT, INK, finish, freeze_layout, palette, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.views.affinity import Floats, Sharpness

PANEL_IN, BAR_IN, TOP_IN = 2.75, 0.62, 0.5
SEQUENTIAL, DIVERGING = "rocket_r", "vlag"  # readable with color blindness
MARK = "#00E5FF"
TITLE_PT = 8.5
DIFFERENCE, SHARPNESS = "difference", "sharpness"


@dataclass(frozen=True, eq=False)
class Panel:
    """One matrix [M, M] with its title.

    A difference has a color scale centered at 0. ``halves`` marks a matrix over images and texts together.
    """

    title: str
    matrix_MM: "Floats"
    is_difference: bool = False
    halves: bool = False


def affinity_figure(panels: Sequence[Panel], label: str, chosen: tuple[int, int] | None = None) -> "Figure":
    """Panels from left to right, with one color scale for all matrices and one for all differences.

    Args:
        label: title of the matrices' color bar.
        chosen: row and column of the cell to mark.
    """
    import seaborn
    from matplotlib.figure import Figure

    low, high, reach = _limits(panels)
    num_bars = 1 + any(panel.is_difference for panel in panels)
    width = PANEL_IN * len(panels) + BAR_IN * num_bars
    with style():
        figure = Figure(figsize=(width, PANEL_IN + TOP_IN))
        figure.set_gid(label)
        place = 0.02
        for number, panel in enumerate(panels):
            axes = figure.add_axes((place / width, 0.04, (PANEL_IN - 0.12) / width, 0.84))
            place += PANEL_IN
            vmin, vmax = (-reach, reach) if panel.is_difference else (low, high)
            cmap = seaborn.color_palette(DIVERGING if panel.is_difference else SEQUENTIAL, as_cmap=True)
            shade = axes.imshow(
                panel.matrix_MM, cmap=cmap, interpolation="nearest", aspect="auto", vmin=vmin, vmax=vmax
            )
            _frame(axes, panel, chosen)
            is_last_of_kind = number + 1 == len(panels) or panels[number + 1].is_difference != panel.is_difference
            if is_last_of_kind:
                bar_axes = figure.add_axes((place / width, 0.04, 0.1 / width, 0.84))
                bar = figure.colorbar(shade, cax=bar_axes)
                bar.outline.set_visible(False)
                bar_axes.tick_params(labelsize=7)
                bar_axes.set_title("difference" if panel.is_difference else label, fontsize=7, weight="normal")
                place += BAR_IN
    return figure


def change_panels(figure: "Figure", panels: Sequence[Panel], label: str, chosen: tuple[int, int] | None = None) -> bool:
    """Update a figure of :func:`affinity_figure` in place, in half the time of a new one.

    Returns:
        False, with the figure unchanged, if the panels differ in number, size or kind, or in the label.
    """
    shown = [axes for axes in figure.axes if axes.images]
    if figure.get_gid() != label or [_kind(axes) for axes in shown] != [
        (panel.matrix_MM.shape, panel.is_difference) for panel in panels
    ]:
        return False
    low, high, reach = _limits(panels)
    with style():
        for axes, panel in zip(shown, panels, strict=True):
            axes.images[0].set_data(panel.matrix_MM)
            axes.images[0].set_clim(*((-reach, reach) if panel.is_difference else (low, high)))
            axes.set_title(panel.title, fontsize=TITLE_PT)
        if chosen is not None:
            mark(figure, chosen)
    return True


def _kind(axes: "Axes") -> tuple[tuple[int, ...], bool]:
    """The shape of a panel's matrix, and whether it is a difference."""
    shades = axes.images[0].get_array()
    assert shades is not None
    return shades.shape, axes.get_gid() == DIFFERENCE


def _limits(panels: Sequence[Panel]) -> tuple[float, float, float]:
    """Minimum and maximum over all matrices, and the maximum absolute difference (1 if there is none)."""
    plain = [panel.matrix_MM for panel in panels if not panel.is_difference]
    differences = [panel.matrix_MM for panel in panels if panel.is_difference]
    low, high = min(float(matrix.min()) for matrix in plain), max(float(matrix.max()) for matrix in plain)
    return low, high, max((float(np.abs(matrix).max()) for matrix in differences), default=0) or 1.0


def panel_at(figure: "Figure", x: float, y: float) -> tuple[int, int] | None:
    """Row and column of the cell at a position; ``x`` and ``y`` are in [0, 1] from the figure's upper left corner."""
    for axes in figure.axes:
        box = axes.get_position()
        if axes.images and box.x0 <= x <= box.x1 and box.y0 <= 1 - y <= box.y1:
            shades = axes.images[0].get_array()
            assert shades is not None
            num_rows, num_columns = shades.shape[:2]
            column = min(num_columns - 1, int((x - box.x0) / box.width * num_columns))
            row = min(num_rows - 1, int((1 - (1 - y - box.y0) / box.height) * num_rows))
            return row, column
    return None


def mark(figure: "Figure", chosen: tuple[int, int]) -> None:
    """Move the mark of a figure of :func:`affinity_figure` to another cell, in place."""
    for axes in figure.axes:
        if axes.images:
            for patch in list(axes.patches):
                patch.remove()
            _mark(axes, chosen)


def sharpness_figure(view: "Sharpness") -> "Figure":
    """The effective number of texts in an image's affinity by scale; each model's learned scale is marked."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(6.4, 3.3), layout="constrained")
        figure.set_gid(SHARPNESS)
        draw_sharpness(figure.subplots(), view)
        freeze_layout(figure)
    return figure


def change_sharpness(figure: "Figure", view: "Sharpness") -> bool:
    """Update a figure of :func:`sharpness_figure` in place; False if it is another figure."""
    if figure.get_gid() != SHARPNESS:
        return False
    with style():
        figure.axes[0].clear()
        draw_sharpness(figure.axes[0], view)
    return True


def draw_sharpness(axes: "Axes", view: "Sharpness") -> None:
    """One line for each model, with a dot at its learned scale."""
    colors = palette(["teacher", "student"])
    for name, spread_N, own in (
        ("student", view.student_N, view.student_scale),
        ("teacher", view.teacher_N, view.teacher_scale),
    ):
        if spread_N is None or own is None:
            continue
        axes.plot(view.scale_N, spread_N, color=colors[name], linewidth=2, label=name)
        at = float(np.interp(np.log(own), np.log(view.scale_N), spread_N))
        axes.plot(own, at, marker="o", markersize=8, color=colors[name], markeredgecolor="white", zorder=4)
        shift, align = ((-6, 10), "right") if name == "student" else ((6, 10), "left")
        label = f"{name}'s scale, {own:.3g}"
        axes.annotate(label, (own, at), shift, textcoords="offset points", fontsize=8, color=colors[name], ha=align)
    axes.axhline(view.num_pairs, color=FAINT, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.text(view.scale_N[0], view.num_pairs, " uniform: no information", va="bottom", fontsize=8, color=FAINT)
    axes.axhline(1, color=FAINT, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.text(view.scale_N[0], 1, " one-hot: only the label", va="bottom", fontsize=8, color=FAINT)
    axes.set(xscale="log", xlabel="scale 1/\N{GREEK SMALL LETTER TAU}", ylim=(0, 1.12 * view.num_pairs))
    axes.set(ylabel="effective number of texts, exp(entropy)", xlim=(view.scale_N[0], view.scale_N[-1]))
    axes.legend(loc="upper right")
    finish(axes)


def _frame(axes: "Axes", panel: Panel, chosen: tuple[int, int] | None) -> None:
    axes.set_title(panel.title, fontsize=TITLE_PT)
    axes.set_gid(DIFFERENCE if panel.is_difference else None)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    if panel.halves:
        middle = len(panel.matrix_MM) / 2 - 0.5
        axes.axhline(middle, color="white", linewidth=1.6)
        axes.axvline(middle, color="white", linewidth=1.6)
    if chosen is not None:
        _mark(axes, chosen)


def _mark(axes: "Axes", chosen: tuple[int, int]) -> None:
    from matplotlib.patches import Rectangle

    row, column = chosen
    for color, width in ((INK, 3.0), (MARK, 1.4)):
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=color, linewidth=width))


CONVENTION_COLORS = {"paper": "#0072B2", "released": "#D55E00"}
PUBLISHED = 1e8  # CLIP-KD's GD weight, for the released code


def gd_weights_figure(scale_N: "Floats", weights: Mapping[str, "Floats"]) -> "Figure":
    """The GD weight λ by scale 1/τ on logarithmic axes, one line for each convention, with the published weight.

    Args:
        scale_N: float64 [N].
        weights: float64 [N] by convention.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.subplots()
        for name, weight_N in weights.items():
            axes.plot(scale_N, weight_N, color=CONVENTION_COLORS[name], linewidth=2)
            axes.annotate(
                name,
                (scale_N[-1], weight_N[-1]),
                (5, 0),
                textcoords="offset points",
                color=CONVENTION_COLORS[name],
                va="center",
                weight="bold",
            )
        axes.axhline(PUBLISHED, color=FAINT, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.text(scale_N[0], PUBLISHED, " published: 1e8", va="bottom", fontsize=8, color=FAINT)
        axes.set(xscale="log", yscale="log", xlabel="scale 1/\N{GREEK SMALL LETTER TAU}")
        axes.set(ylabel="\N{GREEK SMALL LETTER LAMDA} for the gradient norm of CLIP's loss")
        axes.set_xlim(scale_N[0], scale_N[-1])
        axes.set_title("GD weight for equal gradient norms, by temperature and convention")

        finish(axes)
        freeze_layout(figure)
    return figure
