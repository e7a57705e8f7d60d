"""Figures to files: png, svg or pdf by the suffix."""

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


# One style for every figure: colours by model name, lines and type fit for print; nothing stays behind.

INK = "#222222"
FAINT = "#8A8A8A"

# From Okabe and Ito's colours, which people with any common colour blindness can tell apart.
KNOWN = {"teacher": "#222222", "baseline": "#0072B2", "clip-kd": "#D55E00"}
OTHERS = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7A5195", "#8C6D31")
MARKERS = {"baseline": "o", "clip-kd": "D"}

RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: the same figure on every machine
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
    "pdf.fonttype": 42,  # text stays text in print
    "svg.fonttype": "path",  # and looks the same where the font is missing
    "svg.hashsalt": "clip-distillation-workbench",  # the same figure gives the same bytes
}


@contextmanager
def style() -> Iterator[None]:
    """Draw and save within; matplotlib's own settings are back afterwards."""
    import matplotlib
    import seaborn

    with seaborn.axes_style("ticks"), matplotlib.rc_context(RC):
        yield


def palette(models: Sequence[str]) -> dict[str, str]:
    """A colour for each model, the same in every figure.

    A model that has none of its own gets one by its name, or the next free one where another model of this
    figure already has that.
    """
    colors: dict[str, str] = {}
    for model in models:
        first = derive_seed(0, "colour", model) % len(OTHERS)
        wishes = [*OTHERS[first:], *OTHERS[:first]]
        free = [colour for colour in wishes if colour not in colors.values()]
        colors[model] = KNOWN.get(model) or (free or wishes)[0]
    return colors


def marker(model: str) -> str:
    """A marker for each model, so that colour is not the only difference."""
    return MARKERS.get(model, "s")


def finish(axes: "Axes") -> None:
    """No frame beyond the two axes."""
    import seaborn

    seaborn.despine(ax=axes)
    axes.tick_params(length=3, width=0.8)


def take_words_as_they_are(figure: "Figure") -> None:
    """No dollar sign in a name begins a formula; only the powers of ten on a logarithmic axis are formulas."""
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
    """The suffix of a figure's file in lower case, such as ``.png``.

    Raises:
        ValueError: it is not .png, .svg or .pdf.
    """
    suffix = path.suffix.lower()
    if suffix not in METADATA:
        raise unknown("figure format", path.suffix or path.name, METADATA)
    return suffix


def save_figure(figure: "Figure", path: Path | str, *, small: bool = False) -> Path:
    """Writes ``figure`` to ``path``, making its folder; equal figures give equal bytes (no dates inside).

    Args:
        small: a png for a page of text, in few colours and a sixth of the room. Not for heatmaps.

    Raises:
        ValueError: the suffix is not .png, .svg or .pdf.
        OSError: it cannot be written; an older file is intact.
    """
    path = Path(path)
    suffix = check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    take_words_as_they_are(figure)
    dpi = SMALL_DOTS_PER_INCH if small else DOTS_PER_INCH
    with new_file(path) as temporary:
        with style():
            figure.savefig(temporary, dpi=dpi, format=suffix[1:], metadata=METADATA[suffix])
        if small and suffix == ".png":
            with Image.open(temporary) as drawn:
                few = drawn.convert("RGB").quantize(SMALL_COLORS)
            few.save(temporary, "PNG", optimize=True)
    return path
