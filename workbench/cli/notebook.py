"""``workbench notebook``."""

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.options import DEFAULT_RUNS, RunsDir, Trust


def notebook(
    copy: Annotated[
        Path, typer.Option("--copy", metavar="DIR", help="Where your copies of the notebooks are, or are put.")
    ] = Path("notebooks"),
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open one, or only say the address, as over ssh.")
    ] = True,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
) -> None:
    """See why a distillation works: JupyterLab on the bundled notebooks.

    They run on recorded results as they are, and on a run of yours by changing
    their line RUN = "...". A notebook that is in the folder already is never
    touched; remove it to get it as it was.

    Examples:

        workbench notebook

        workbench notebook --copy ~/clip/notebooks --no-browser
    """
    from workbench.cli.output import print_line
    from workbench.notebook.launch import bundled_notebooks, check_jupyterlab, copy_notebooks, free_port, start

    check_jupyterlab()
    folder = copy.expanduser()
    new = copy_notebooks(folder)
    num_kept = len(bundled_notebooks()) - len(new)
    kept = f", {num_kept} left as they were" if num_kept else ""
    print_line(f"{folder}: {len(new)} notebooks put there{kept}")
    free_port()
    start(folder, runs, browser=browser)
