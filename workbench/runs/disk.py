"""Where files will go: how much room there is, and whether anything may be written."""

import os
import shutil
from pathlib import Path


def free_bytes(path: Path) -> int:
    """Free bytes on the disk that holds ``path``, or would if it were made."""
    return shutil.disk_usage(_nearest(path)).free


def is_writable(folder: Path) -> bool:
    """Whether something can be written into the folder, or the folder be made."""
    nearest = _nearest(folder)
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def size_text(num_bytes: float) -> str:
    """Bytes as people say them: 1.2 GB, 34.5 MB, 6.7 kB."""
    if num_bytes >= 1e9:
        return f"{num_bytes / 1e9:,.1f} GB"
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.1f} kB"


def _nearest(path: Path) -> Path:
    """The path itself, or the first of its parents that exists."""
    path = path.absolute()
    # Path.exists raises where one may not look.
    return next(place for place in (path, *path.parents) if os.access(place, os.F_OK))
