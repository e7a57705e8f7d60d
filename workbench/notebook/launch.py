"""Opening JupyterLab on the bundled notebooks."""

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
# No question about news at the first start, and nothing fetched from the network unasked.
QUIET = ("--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate")


def bundled_notebooks() -> list[Path]:
    """The notebooks that came with this version, in the order in which they are to be read."""
    folders = (PACKAGE / FOLDER, PACKAGE.parent / FOLDER)  # of the installed package; of a source checkout
    return next((found for folder in folders if (found := sorted(folder.glob("*.ipynb")))), [])


def copy_notebooks(folder: Path) -> list[Path]:
    """Puts the bundled notebooks that are not there yet into ``folder``, and leaves all others as they are.

    Returns:
        Those that were put there.

    Raises:
        OSError: the folder cannot be made or written; each notebook is whole or not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [source for source in bundled_notebooks() if not (folder / source.name).exists()]
    for source in missing:
        write_atomically(folder / source.name, source.read_bytes())
    return [folder / source.name for source in missing]


def check_jupyterlab() -> None:
    """Refuse where JupyterLab or its widgets are missing.

    Raises:
        ValueError: naming what to install.
    """
    missing = [name for name in ("jupyterlab", "ipywidgets") if find_spec(name) is None]
    if missing:
        raise ValueError(f"the notebooks need {' and '.join(missing)}: pip install {' '.join(missing)}")


def free_port(first: int = FIRST_PORT, number: int = NUM_PORTS) -> int:
    """The first of some ports of this machine that nobody listens on.

    Raises:
        ValueError: there is none.
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
        f"all ports from {first} to {first + number - 1} are taken: close a notebook server (`jupyter server list` "
        "names them), or open the notebooks in your own, as they are in the folder now"
    )


def start(folder: Path, runs_dir: Path, *, browser: bool) -> NoReturn:
    """Become JupyterLab in ``folder``; its notebooks find runs in ``runs_dir``.

    Raises:
        ValueError: no port is free.
    """
    arguments = [
        *(sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.absolute()}"),
        *(f"--ServerApp.port={free_port()}", "--ServerApp.port_retries=0"),
        *QUIET,
        *(() if browser else ("--no-browser",)),
        *(("--allow-root",) if os.geteuid() == 0 else ()),  # in a container; it listens on this machine alone
    ]
    os.execve(sys.executable, arguments, os.environ | {"WORKBENCH_RUNS": str(runs_dir.absolute())})
