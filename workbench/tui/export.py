"""Export of a screen: an SVG image of it, and its data as CSV."""

import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.files import write_atomically
from workbench.formatting import to_csv

if TYPE_CHECKING:
    from workbench.tui.charts.plot import Plot

Table = tuple[Sequence[str], Iterable[Sequence[str]]]  # headings, rows


def plots_table(plots: "Iterable[Plot]") -> Table:
    """Every point of the plots, with its plot, curve, step, seconds of training, value and unit."""
    rows = [
        [plot.title, one.name, f"{step:.0f}", f"{elapsed_s:.3f}", repr(value), plot.unit]
        for plot in plots
        for one in plot.curves
        for step, elapsed_s, value in zip(one.step.tolist(), one.elapsed_s.tolist(), one.value.tolist(), strict=True)
    ]
    return ["plot", "curve", "step", "elapsed_s", "value", "unit"], rows


def write_export(name: str, svg: str, table: Table | None, folder: Path | None = None) -> list[Path]:
    """Write ``workbench-NAME-TIME.svg`` and ``.csv`` to ``folder``, by default the working directory.

    Raises:
        ValueError: a file cannot be written.
    """
    folder = folder or Path.cwd()
    stem = f"workbench-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}-{time.strftime('%m%d-%H%M%S')}"
    contents = {".svg": svg, **({".csv": to_csv(*table)} if table else {})}
    written = []
    for suffix, content in contents.items():
        path = folder / f"{stem}{suffix}"
        try:
            write_atomically(path, content)
        except OSError as error:
            raise ValueError(f"cannot write {path}: {error.strerror or error}") from None
        written.append(path)
    return written
