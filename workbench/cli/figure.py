"""Figures that a command is told to write."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure


def write_figure(figure: "Figure", file: "Path") -> None:
    """Write ``figure`` where ``--figure`` says.

    Raises:
        ValueError: it cannot be written there, or has no known format.
    """
    from workbench.figures.save import save_figure
    from workbench.files import explained

    with explained(file, "name another with --figure FILE"):
        save_figure(figure, file)
