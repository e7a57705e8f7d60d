"""Figures to files: png, svg or pdf by the suffix."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from workbench.config.nearest import unknown
from workbench.figures.style import style, take_words_as_they_are

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 200
SMALL_DOTS_PER_INCH, SMALL_COLOURS = 130, 32
METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}


def save_figure(figure: "Figure", path: Path | str, *, small: bool = False) -> Path:
    """Writes ``figure`` to ``path``, making its folder; equal figures give equal bytes (no dates inside).

    Args:
        small: a png for a page of text, in few colours and a sixth of the room. Not for heatmaps.

    Raises:
        ValueError: the suffix is not .png, .svg or .pdf.
    """
    path = Path(path)
    if path.suffix.lower() not in METADATA:
        raise unknown("figure format", path.suffix or path.name, METADATA)
    path.parent.mkdir(parents=True, exist_ok=True)
    take_words_as_they_are(figure)
    with style():
        dpi = SMALL_DOTS_PER_INCH if small else DOTS_PER_INCH
        figure.savefig(path, dpi=dpi, metadata=METADATA[path.suffix.lower()])
    if small and path.suffix.lower() == ".png":
        with Image.open(path) as drawn:
            few = drawn.convert("RGB").quantize(SMALL_COLOURS)
        few.save(path, optimize=True)
    return path
