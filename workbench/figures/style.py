"""Style shared by all figures: colors, fonts, layout, and saving to png, svg or pdf."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from workbench.errors import unknown
from workbench.files import new_file
from workbench.randomness import derive_seed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.statistics.intervals import Estimate

INK, FAINT = "#222222", "#8A8A8A"
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"  # of Okabe and Ito
DASHED = (0, (3, 2))
Options = dict[str, Any]  # keyword arguments of a drawing function of matplotlib
SEEDS: Options = {"linestyle": "", "marker": "o", "markersize": 2.8, "color": FAINT, "zorder": 5}
STEP = "step"  # gid of the lines that move with the step

# Okabe and Ito's colors, distinguishable with the common kinds of color blindness.
KNOWN = {"teacher": INK, "baseline": BLUE, "clip-kd": ORANGE}
OTHERS = (GREEN, PINK, "#56B4E9", "#E69F00", "#7A5195", "#8C6D31")
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
        first = derive_seed(0, "colour", model) % len(OTHERS)  # another spelling would give other colors
        candidates = [*OTHERS[first:], *OTHERS[:first]]
        free = [color for color in candidates if color not in colors.values()]
        colors[model] = KNOWN.get(model) or (free or candidates)[0]
    return colors


def marker(model: str) -> str:
    """A marker for each model, so that models differ by more than color."""
    return MARKERS.get(model, "s")


@contextmanager
def new_figure(width_in: float, height_in: float, *, is_placed: bool = False, **padding: float) -> Iterator["Figure"]:
    """A figure to be drawn on in this context, in the style of all figures; laid out when the context ends.

    Args:
        is_placed: the caller places the axes.
        padding: of matplotlib's constrained layout, such as ``w_pad``, in inches.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(width_in, height_in))
        if is_placed:
            yield figure
            return
        figure.set_layout_engine("constrained", **padding)
        yield figure
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # another layout at every draw would shift the axes slightly


def finish(axes: "Axes", *, grid: Literal["x", "y"] = "y") -> None:
    """Remove the top and right spines; grid lines along one axis only."""
    import seaborn

    seaborn.despine(ax=axes)
    axes.tick_params(length=3, width=0.8)
    axes.grid(visible=grid == "x", axis="x")
    axes.grid(visible=grid == "y", axis="y")


def count_steps(axes: "Axes", last: int) -> None:
    """An x axis of training steps from 0 to the last."""
    from matplotlib.ticker import MaxNLocator

    axes.set(xlabel="training step", xlim=(0, max(last, 2)))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def legend_outside(axes: "Axes", **options: Any) -> None:
    """A legend to the right of the axes."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0, **options)


def annotate(axes: "Axes", text: str, at: tuple[float, float], offset: tuple[float, float], **options: Any) -> None:
    """Text next to a data point; ``offset`` is in points."""
    axes.annotate(text, at, offset, textcoords="offset points", **{"fontsize": 8, **options})


def mark_level(axes: "Axes", value: float, text: str = "", color: str = FAINT, **options: Any) -> None:
    """A dashed horizontal line, with its meaning above its left end."""
    axes.axhline(value, color=color, linewidth=0.9, linestyle=DASHED)
    at = axes.get_yaxis_transform()
    axes.text(0.01, value, text, transform=at, va="bottom", fontsize=8, color=color, **options)


def mark_step(axes: "Axes", step: int) -> None:
    """A dashed vertical line at the step that a figure shows; :func:`move_step` moves it."""
    axes.axvline(step, color=INK, linewidth=0.9, linestyle=DASHED, zorder=1, gid=STEP)


def move_step(figure: "Figure", step: int) -> None:
    """Move all lines of :func:`mark_step` in a figure to another step."""
    for axes in figure.axes:
        for line in axes.get_lines():
            if line.get_gid() == STEP:
                line.set_xdata([step, step])


def draw_interval(
    axes: "Axes",
    place: float,
    interval: "Estimate",
    factor: float,
    *,
    upright: bool = False,
    color: str = BLUE,
    face: str | None = None,
    marker: str = "o",
    **line: Any,
) -> None:
    """The mean as a marker over its interval.

    Args:
        place: on the other axis.
        factor: from the stored to the shown unit.
        upright: along the y axis instead of the x axis.
        face: color inside the marker.
        line: options of the interval's line.
    """
    ends, mean = [interval.low * factor, interval.high * factor], [interval.mean * factor]
    line = {"color": color, "linewidth": 1.6, "solid_capstyle": "butt", "zorder": 3, **line}
    dot: Options = {"color": color, "markersize": 6, "markerfacecolor": face or color, "linestyle": "", "zorder": 6}
    axes.plot(*(([place] * 2, ends) if upright else (ends, [place] * 2)), **line)
    axes.plot(*(([place], mean) if upright else (mean, [place])), marker=marker, **dot)


def draw_seeds(axes: "Axes", place: float, values: Sequence[float], factor: float, *, upright: bool = False) -> None:
    """A small dot for each seed's value, next to :func:`draw_interval`."""
    seeds, places = [factor * value for value in values], [place] * len(values)
    axes.plot(*((places, seeds) if upright else (seeds, places)), **SEEDS)


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
METADATA: dict[str, Options] = {
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
