"""Copying the bundled notebooks and starting JupyterLab on them."""

import os
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from workbench.files import write_atomically
from workbench.resources import PACKAGE

FOLDER = "notebooks"
FIRST_PORT, NUM_PORTS = 8888, 50
# No dialog at the first start, and no network requests.
QUIET = ("--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate")


def bundled_notebooks() -> list[Path]:
    """The bundled notebooks, in reading order."""
    folders = (PACKAGE / FOLDER, PACKAGE.parent / FOLDER)  # installed package; source checkout
    return next((found for folder in folders if (found := sorted(folder.glob("*.ipynb")))), [])


def copy_notebooks(folder: Path) -> list[Path]:
    """Copy the bundled notebooks into ``folder`` without overwriting existing ones.

    Returns:
        The new copies.

    Raises:
        OSError: the folder cannot be written; no notebook is left incomplete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [source for source in bundled_notebooks() if not (folder / source.name).exists()]
    for source in missing:
        write_atomically(folder / source.name, source.read_bytes())
    return [folder / source.name for source in missing]


def check_jupyterlab() -> None:
    """Check that JupyterLab and ipywidgets are installed.

    Raises:
        ValueError: a package is missing; names the pip command.
    """
    missing = [name for name in ("jupyterlab", "ipywidgets") if find_spec(name) is None]
    if missing:
        raise ValueError(f"the notebooks need {' and '.join(missing)}: pip install {' '.join(missing)}")


def free_port(first: int = FIRST_PORT, number: int = NUM_PORTS) -> int:
    """The first free local port of ``number`` ports from ``first``.

    Raises:
        ValueError: all are in use.
    """
    for port in range(first, first + number):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ValueError(
        f"all ports from {first} to {first + number - 1} are in use: stop a notebook server (see `jupyter server "
        "list`), or open the copied notebooks in a running one"
    )


def start(folder: Path, runs_dir: Path, *, browser: bool) -> NoReturn:
    """Replace this process with JupyterLab in ``folder``; its notebooks find runs in ``runs_dir``.

    Raises:
        ValueError: no port is free.
    """
    arguments = [
        *(sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.absolute()}"),
        *(f"--ServerApp.port={free_port()}", "--ServerApp.port_retries=0"),
        *QUIET,
        *(() if browser else ("--no-browser",)),
        *(("--allow-root",) if os.geteuid() == 0 else ()),  # in a container; listens on localhost only
    ]
    os.execve(sys.executable, arguments, os.environ | {"WORKBENCH_RUNS": str(runs_dir.absolute())})
