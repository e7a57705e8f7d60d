"""Figures to files: png, svg or pdf by the suffix."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.config.nearest import unknown
from workbench.figures.style import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 200
METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}


def save_figure(figure: "Figure", path: Path | str) -> Path:
    """Writes ``figure`` to ``path``, making its folder; equal figures give equal bytes (no dates inside).

    Raises:
        ValueError: the suffix is not .png, .svg or .pdf.
    """
    path = Path(path)
    if path.suffix.lower() not in METADATA:
        raise unknown("figure format", path.suffix or path.name, METADATA)
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        figure.savefig(path, dpi=DOTS_PER_INCH, metadata=METADATA[path.suffix.lower()])
    return path
