"""Which code made a run."""

from functools import cache
from hashlib import sha256

from workbench.resources import PACKAGE


@cache
def code_sha256() -> str:
    """SHA-256, hex, over the names and contents of the package's own Python files, as this process found them."""
    digest = sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
