"""The weight that gradient distillation needs, by temperature and convention."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from workbench.figures.style import FAINT, finish, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.views.affinity import Floats

COLOURS = {"paper": "#0072B2", "released": "#D55E00"}
PUBLISHED = 1e8


def gd_weights_figure(scale_N: "Floats", weights: Mapping[str, "Floats"]) -> "Figure":
    """λ_GD over 1/τ, both logarithmic, a line a convention; the released code's published weight is marked.

    Args:
        weights: float64 [N] by convention.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.subplots()
        for name, weight_N in weights.items():
            axes.plot(scale_N, weight_N, color=COLOURS[name], linewidth=2)
            axes.annotate(
                name,
                (scale_N[-1], weight_N[-1]),
                (5, 0),
                textcoords="offset points",
                color=COLOURS[name],
                va="center",
                weight="bold",
            )
        axes.axhline(PUBLISHED, color=FAINT, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.text(scale_N[0], PUBLISHED, " published: 1e8", va="bottom", fontsize=8, color=FAINT)
        axes.set(xscale="log", yscale="log", xlabel="scale 1/\N{GREEK SMALL LETTER TAU}")
        axes.set(ylabel="\N{GREEK SMALL LETTER LAMDA} for a pull as strong as CLIP's")
        axes.set_xlim(scale_N[0], scale_N[-1])
        axes.set_title("What GD weighs depends on the temperature, and on whose")
        finish(axes)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure
