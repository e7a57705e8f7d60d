"""Affinity matrices with their differences, affinity sharpness by temperature, and GD's weight by temperature.

Shape letters: M rows and columns of a matrix, N scales.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.figures.style import BLUE, INK, ORANGE, annotate, finish, mark_level, new_figure, palette, style
from workbench.views.affinity import divergence, in_order, ordered, recall_at_1

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from workbench.runs.snapshots import Probe
    from workbench.views.affinity import AffinityView, Floats, Order, Sharpness

PANEL_IN, BAR_IN, TOP_IN = 2.75, 0.62, 0.5
SEQUENTIAL, DIVERGING = "rocket_r", "vlag"  # readable with color blindness
MARK = "#00E5FF"
TITLE_PT = 8.5
DIFFERENCE, SHARPNESS = "difference", "sharpness"  # gids
SCALE = "scale 1/\N{GREEK SMALL LETTER TAU}"


@dataclass(frozen=True, eq=False)
class Panel:
    """One matrix [M, M] with its title.

    A difference has a color scale centered at 0. ``halves`` marks a matrix over images and texts together.
    """

    title: str
    matrix_MM: "Floats"
    is_difference: bool = False
    halves: bool = False


def model_panels(
    names: Sequence[str],
    probes: "Sequence[Probe]",
    views: "Sequence[AffinityView]",
    order: Sequence[int],
    *,
    halves: bool = False,
) -> list[Panel]:
    """The first model's teacher, then every model, then every model's difference to its teacher.

    Args:
        names: of the models, for titles, which also have R@1 among the probe's pairs.
        probes, views: of the models, on the same pairs.
        order: of the pairs in rows and columns.
    """
    panels, differences = [], []
    if views[0].teacher_PP is not None and probes[0].teacher:
        title = f"teacher   R@1 {recall_at_1(probes[0].teacher):.0%}"
        panels.append(Panel(title, in_order(views[0].teacher_PP, order), halves=halves))
    for name, view, probe in zip(names, views, probes, strict=True):
        title = f"{name}   R@1 {recall_at_1(probe.student):.0%}"
        panels.append(Panel(title, in_order(view.student_PP, order), halves=halves))
        if view.difference_PP is not None:
            kl = divergence(view)
            title = "student \N{MINUS SIGN} teacher" + ("" if kl is None else f"   KL {kl:.2f} nats")
            difference_PP = in_order(view.difference_PP, order)
            differences.append(Panel(title, difference_PP, is_difference=True, halves=halves))
    return panels + differences


def probe_order(probe: "Probe", by: "Order", *, texts: bool = False, words: Sequence[str] = ()) -> list[int]:
    """The order of a probe's pairs, by the teacher's similarities of their images (or texts) if it has a teacher."""
    outputs = probe.teacher or probe.student
    part_PD = (outputs.text_PD if texts else outputs.image_PD).astype(np.float64)
    return ordered(probe.captions, by, part_PD @ part_PD.T, words)


def affinity_figure(
    panels: Sequence[Panel],
    label: str,
    chosen: tuple[int, int] | None = None,
    earlier: "Figure | None" = None,
) -> "Figure":
    """Panels from left to right, with one color scale for all matrices and one for all differences.

    Args:
        label: title of the matrices' color bar.
        chosen: row and column of the cell to mark.
        earlier: updated in place, in half the time, if its panels have the same sizes and kinds and the same label.
    """
    if earlier and earlier.get_gid() == label and _kinds(earlier) == [_kind(panel) for panel in panels]:
        for axes, panel in zip(_shown(earlier), panels, strict=True):
            axes.images[0].set_data(panel.matrix_MM)
            axes.images[0].set_clim(*_limits(panels, panel.is_difference))
            with style():
                axes.set_title(panel.title, fontsize=TITLE_PT)
        if chosen is not None:
            mark(earlier, chosen)
        return earlier
    width = PANEL_IN * len(panels) + BAR_IN * len({panel.is_difference for panel in panels})
    with new_figure(width, PANEL_IN + TOP_IN, is_placed=True) as figure:
        figure.set_gid(label)
        place = 0.02
        for number, panel in enumerate(panels):
            axes = figure.add_axes((place / width, 0.04, (PANEL_IN - 0.12) / width, 0.84))
            place += PANEL_IN
            shade = _draw_panel(axes, panel, _limits(panels, panel.is_difference))
            is_last_of_kind = number + 1 == len(panels) or panels[number + 1].is_difference != panel.is_difference
            if is_last_of_kind:
                bar_axes = figure.add_axes((place / width, 0.04, 0.1 / width, 0.84))
                figure.colorbar(shade, cax=bar_axes).outline.set_visible(False)
                bar_axes.tick_params(labelsize=7)
                bar_axes.set_title(DIFFERENCE if panel.is_difference else label, fontsize=7, weight="normal")
                place += BAR_IN
        if chosen is not None:
            mark(figure, chosen)
    return figure


def _shown(figure: "Figure") -> "list[Axes]":
    """The axes with a matrix, without the color bars."""
    return [axes for axes in figure.axes if axes.images]


def _kinds(figure: "Figure") -> list[tuple[tuple[int, ...], bool]]:
    return [(_shape(axes), axes.get_gid() == DIFFERENCE) for axes in _shown(figure)]


def _kind(panel: Panel) -> tuple[tuple[int, ...], bool]:
    return panel.matrix_MM.shape, panel.is_difference


def _shape(axes: "Axes") -> tuple[int, ...]:
    shades = axes.images[0].get_array()
    assert shades is not None
    return shades.shape


def _limits(panels: Sequence[Panel], is_difference: bool) -> tuple[float, float]:
    """The color scale of all matrices, or of all differences, with 0 in the middle."""
    matrices = [panel.matrix_MM for panel in panels if panel.is_difference == is_difference]
    low, high = min(float(matrix.min()) for matrix in matrices), max(float(matrix.max()) for matrix in matrices)
    reach = max(-low, high) or 1.0  # equal models: no difference, but a scale needs a width
    return (-reach, reach) if is_difference else (low, high)


def _draw_panel(axes: "Axes", panel: Panel, limits: tuple[float, float]) -> "AxesImage":
    import seaborn

    shades = seaborn.color_palette(DIVERGING if panel.is_difference else SEQUENTIAL, as_cmap=True)
    low, high = limits
    shade = axes.imshow(panel.matrix_MM, shades, interpolation="nearest", aspect="auto", vmin=low, vmax=high)
    axes.set_title(panel.title, fontsize=TITLE_PT)
    axes.set_gid(DIFFERENCE if panel.is_difference else None)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    if panel.halves:
        middle = len(panel.matrix_MM) / 2 - 0.5
        axes.axhline(middle, color="white", linewidth=1.6)
        axes.axvline(middle, color="white", linewidth=1.6)
    return shade


def panel_at(figure: "Figure", x: float, y: float) -> tuple[int, int] | None:
    """Row and column of the cell at a position; ``x`` and ``y`` are in [0, 1] from the figure's upper left corner."""
    for axes in _shown(figure):
        box = axes.get_position()
        if box.x0 <= x <= box.x1 and box.y0 <= 1 - y <= box.y1:
            num_rows, num_columns = _shape(axes)[:2]
            column = min(num_columns - 1, int((x - box.x0) / box.width * num_columns))
            row = min(num_rows - 1, int((box.y1 - 1 + y) / box.height * num_rows))
            return row, column
    return None


def mark(figure: "Figure", chosen: tuple[int, int]) -> None:
    """Mark a cell in all panels of a figure of :func:`affinity_figure`, and no other cell."""
    from matplotlib.patches import Rectangle

    row, column = chosen
    for axes in _shown(figure):
        for patch in list(axes.patches):
            patch.remove()
        for color, width in ((INK, 3.0), (MARK, 1.4)):
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=color, linewidth=width))


def sharpness_figure(view: "Sharpness", earlier: "Figure | None" = None) -> "Figure":
    """The effective number of texts in an image's affinity by scale; each model's learned scale is marked.

    Args:
        earlier: a figure of this function is updated in place.
    """
    if earlier and earlier.get_gid() == SHARPNESS:
        with style():
            earlier.axes[0].clear()
            draw_sharpness(earlier.axes[0], view)
        return earlier
    with new_figure(6.4, 3.3) as figure:
        figure.set_gid(SHARPNESS)
        draw_sharpness(figure.subplots(), view)
    return figure


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
        annotate(axes, f"{name}'s scale, {own:.3g}", (own, at), shift, color=colors[name], ha=align)
    mark_level(axes, view.num_pairs, "uniform: no information")
    mark_level(axes, 1, "one-hot: only the label")
    axes.set(xscale="log", xlabel=SCALE, ylim=(0, 1.12 * view.num_pairs))
    axes.set(ylabel="effective number of texts, exp(entropy)", xlim=(view.scale_N[0], view.scale_N[-1]))
    axes.legend(loc="upper right")
    finish(axes)


CONVENTION_COLORS = {"paper": BLUE, "released": ORANGE}
PUBLISHED = 1e8  # CLIP-KD's GD weight, for the released code


def gd_weights_figure(scale_N: "Floats", weights: Mapping[str, "Floats"]) -> "Figure":
    """The GD weight λ by scale 1/τ on logarithmic axes, one line for each convention, with the published weight.

    Args:
        scale_N: float64 [N].
        weights: float64 [N] by convention.
    """
    with new_figure(6.4, 3.4) as figure:
        axes = figure.subplots()
        for name, weight_N in weights.items():
            color = CONVENTION_COLORS[name]
            axes.plot(scale_N, weight_N, color=color, linewidth=2)
            end = (scale_N[-1], weight_N[-1])
            annotate(axes, name, end, (5, 0), color=color, va="center", weight="bold", fontsize=9)
        mark_level(axes, PUBLISHED, "published: 1e8")
        axes.set(xscale="log", yscale="log", xlabel=SCALE, xlim=(scale_N[0], scale_N[-1]))
        axes.set(ylabel="\N{GREEK SMALL LETTER LAMDA} for the gradient norm of CLIP's loss")
        axes.set_title("GD weight for equal gradient norms, by temperature and convention")
        finish(axes)
    return figure
