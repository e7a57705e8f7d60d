"""Which Python files named in configs may run: those below the working directory, or all with ``--trust``.

Recipes, studies and run folders may come from someone else, and loading a loss executes its file.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from workbench.files import resolved

VARIABLE = "WORKBENCH_TRUST"  # an environment variable, so that child processes inherit it
RULE = "in the working directory or below it, and not in a run's folder"

_named_in_code = ContextVar("_named_in_code", default=False)


def trust_everything() -> None:
    """Allow this process and its children to run any file named in a config."""
    os.environ[VARIABLE] = "1"


@contextmanager
def named_in_code() -> Iterator[None]:
    """Context in which files are named by calling Python code, not by a config, and therefore trusted."""
    token = _named_in_code.set(True)
    try:
        yield
    finally:
        _named_in_code.reset(token)


def check_trusted(file: Path) -> None:
    """Check that a Python file is trusted. Symbolic links are resolved.

    Raises:
        ValueError: the file lies outside the working directory, or in a run's folder, and ``--trust`` was not given.
    """
    if os.environ.get(VARIABLE) or _named_in_code.get():
        return
    path, working = resolved(file), Path.cwd()
    runs = [folder for folder in path.parents if (folder / "run.toml").exists()]
    if working in path.parents and working != working.parent and not runs:
        return
    where = f"in the folder of run {runs[0].name}" if runs else f"outside the working directory {working}"
    raise ValueError(f"the loss file {path} is {where}: loading it runs its code; read it, then add --trust")
