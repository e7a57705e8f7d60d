"""Style shared by all figures: colors, fonts, layout, and saving to png, svg or pdf."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from workbench.errors import unknown
from workbench.files import new_file
from workbench.randomness import derive_seed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


INK = "#222222"
FAINT = "#8A8A8A"

# Okabe and Ito's colors, distinguishable with the common kinds of color blindness.
KNOWN = {"teacher": "#222222", "baseline": "#0072B2", "clip-kd": "#D55E00"}
OTHERS = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7A5195", "#8C6D31")
MARKERS = {"baseline": "o", "clip-kd": "D"}

RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: same figure on every machine
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,  # TrueType: text stays text
    "svg.fonttype": "path",  # readable without the font
    "svg.hashsalt": "clip-distillation-workbench",  # deterministic ids: the same figure gives the same bytes
}


@contextmanager
def style() -> Iterator[None]:
    """Context in which figures are drawn and saved; restores matplotlib's settings on exit."""
    import matplotlib
    import seaborn

    with seaborn.axes_style("ticks"), matplotlib.rc_context(RC):
        yield


def palette(models: Sequence[str]) -> dict[str, str]:
    """A color for each model, the same in every figure.

    Models without a fixed color get one by a hash of their name, or the next that is free in this figure.
    """
    colors: dict[str, str] = {}
    for model in models:
        first = derive_seed(0, "colour", model) % len(OTHERS)
        candidates = [*OTHERS[first:], *OTHERS[:first]]
        free = [color for color in candidates if color not in colors.values()]
        colors[model] = KNOWN.get(model) or (free or candidates)[0]
    return colors


def marker(model: str) -> str:
    """A marker for each model, so that models differ by more than color."""
    return MARKERS.get(model, "s")


def finish(axes: "Axes") -> None:
    """Remove the top and right spines."""
    import seaborn

    seaborn.despine(ax=axes)
    axes.tick_params(length=3, width=0.8)


def freeze_layout(figure: "Figure") -> None:
    """Lay out once and disable the layout engine: another pass at every draw would shift the axes slightly."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def disable_math_text(figure: "Figure") -> None:
    """Show dollar signs in names as they are, except in the tick labels of logarithmic axes, which are math text."""
    from matplotlib.text import Text

    axes = [axis for one in figure.axes for axis in (one.xaxis, one.yaxis) if axis.get_scale() == "log"]
    powers = {label for axis in axes for label in axis.get_ticklabels(which="both")}
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text not in powers:
            text.set_parse_math(False)


DOTS_PER_INCH = 200
SMALL_DOTS_PER_INCH, SMALL_COLORS = 130, 32
METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}


def check_suffix(path: Path) -> str:
    """The suffix of a figure's path in lower case, such as ``.png``.

    Raises:
        ValueError: it is not .png, .svg or .pdf.
    """
    suffix = path.suffix.lower()
    if suffix not in METADATA:
        raise unknown("figure format", path.suffix or path.name, METADATA)
    return suffix


def save_figure(figure: "Figure", path: Path | str, *, small: bool = False) -> Path:
    """Write ``figure`` to ``path`` and create its folder. Equal figures give equal bytes (no dates in the file).

    Args:
        small: for png, 32 colors and a lower resolution: a sixth of the size. Not for heatmaps.

    Raises:
        ValueError: the suffix is not .png, .svg or .pdf.
        OSError: it cannot be written; an existing file is unchanged.
    """
    path = Path(path)
    suffix = check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    disable_math_text(figure)
    dpi = SMALL_DOTS_PER_INCH if small else DOTS_PER_INCH
    with new_file(path) as temporary:
        with style():
            figure.savefig(temporary, dpi=dpi, format=suffix[1:], metadata=METADATA[suffix])
        if small and suffix == ".png":
            with Image.open(temporary) as drawn:
                few = drawn.convert("RGB").quantize(SMALL_COLORS)
            few.save(temporary, "PNG", optimize=True)
    return path
