"""Which Python files that configs name may be run: those of the folders one works in, or all with ``--trust``.

A recipe, a study and a run's folder may come from somebody else, and loading a loss runs its file.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

VARIABLE = "WORKBENCH_TRUST"  # in the environment, so that the processes which a command starts go by it too
RULE = "in the working directory or below it, and not in a run's folder"

_named_in_code = ContextVar("_named_in_code", default=False)


def trust_everything() -> None:
    """Let this process, and those it starts, run any file that a config names."""
    os.environ[VARIABLE] = "1"


@contextmanager
def named_in_code() -> Iterator[None]:
    """Within it, files are named by the Python code that calls the workbench, and not by a config."""
    token = _named_in_code.set(True)
    try:
        yield
    finally:
        _named_in_code.reset(token)


def check_trusted(file: Path) -> None:
    """Refuse to run a Python file that is not known to be one's own. Symbolic links count as what they point to.

    Raises:
        ValueError: the file lies outside the working directory, or in a run's folder, and ``--trust`` was not given.
    """
    if os.environ.get(VARIABLE) or _named_in_code.get():
        return
    path, working = file.resolve(), Path.cwd()
    runs = [folder for folder in path.parents if (folder / "run.toml").is_file()]
    if working in path.parents and working != working.parent and not runs:
        return
    place = f"in the folder of run {runs[0].name}" if runs else f"outside the working directory {working}"
    raise ValueError(f"the loss file {path} is {place}: loading it runs its code; read it, then add --trust")
