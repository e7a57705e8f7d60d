"""Folders that commands write to."""

import os
from pathlib import Path


def check_free(folder: Path) -> None:
    """Refuse at once what could not be written after minutes of work.

    Raises:
        ValueError: the folder holds something already, or cannot be made.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists already: name another with --out DIR")
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"cannot write {folder}: {there} is no folder to write in; name another with --out DIR")
