"""Finds recipes, studies and sample data, the cache folder, and the hash of the code.

Each file is looked up in the working directory first, so that a user's copy wins, then in the installed package, then
in the source checkout.
"""

import os
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

PACKAGE = Path(__file__).parent


def roots() -> Iterator[Path]:
    """The folders that may hold ``recipes/``, ``studies/`` and ``data_samples/``, in order of precedence."""
    yield Path.cwd()
    yield PACKAGE
    yield PACKAGE.parent


def find_resource(relative: str) -> Path | None:
    """The first existing ``root / relative``, or None."""
    return next((root / relative for root in roots() if (root / relative).exists()), None)


def list_resources(folder: str, suffix: str) -> dict[str, Path]:
    """Every ``folder/*suffix`` by stem; a file in an earlier root hides one of the same name in a later root."""
    by_name: dict[str, Path] = {}
    for root in roots():
        for path in sorted((root / folder).glob(f"*{suffix}")):
            by_name.setdefault(path.name.removesuffix(suffix), path)
    return by_name


def cache_dir() -> Path:
    """The folder of drawn samples, shard indices and stores: ``$WORKBENCH_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("WORKBENCH_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "clip-distillation-workbench"


@cache
def code_sha256() -> str:
    """Hex SHA-256 over the names and contents of the package's Python files; read once per process."""
    digest = sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
