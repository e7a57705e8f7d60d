"""Figures to files: png, svg or pdf by the suffix."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from workbench.config.nearest import unknown
from workbench.figures.style import style, take_words_as_they_are
from workbench.files import new_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 200
SMALL_DOTS_PER_INCH, SMALL_COLOURS = 130, 32
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
                few = drawn.convert("RGB").quantize(SMALL_COLOURS)
            few.save(temporary, "PNG", optimize=True)
    return path
