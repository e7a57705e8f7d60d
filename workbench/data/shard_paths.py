"""The shards that a SPEC names: a file, a folder or a range of numbers."""

import itertools
import re
from pathlib import Path

from workbench.data.forms import FORMS, no_such_path

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def shard_paths(spec: str) -> list[Path]:
    """The shards that a path, a folder or a brace range names, in order; some of a range may be missing.

    Raises:
        ValueError: none of them exists, or they are no tars.
    """
    paths = [Path(text).expanduser() for text in _expand(spec)]
    if not any(path.exists() for path in paths):
        if len(paths) == 1:
            raise no_such_path(paths[0])
        raise ValueError(f"{len(paths)} of {len(paths)} shards of '{spec}' are missing, first '{paths[0]}'")
    if len(paths) == 1 and paths[0].is_dir():
        found = sorted(paths[0].glob("*.tar"))
        if not found:
            raise _no_shards(paths[0])
        return found
    for path in paths:
        if path.suffix != ".tar" or (path.exists() and not path.is_file()):
            raise ValueError(f"'{path}' is no .tar file: a SPEC is {FORMS}")
    return paths


def _no_shards(folder: Path) -> ValueError:
    """A folder of a sample set's splits, most likely, or of something else."""
    splits = sorted({file.parent.name for file in folder.glob("*/*.tar")}, key=lambda name: (name != "train", name))
    remedy = f"name one of its folders, such as {folder / splits[0]}" if splits else f"a SPEC is {FORMS}"
    return ValueError(f"no .tar files in the folder '{folder}': {remedy}")


def _expand(spec: str) -> list[str]:
    """Every path of a pattern with ranges such as ``{00000..00099}``, with the zeros in front.

    Raises:
        ValueError: a range that runs backwards.
    """
    pieces = _RANGE.split(spec)
    choices: list[list[str]] = [[pieces[0]]]
    for first, last, after in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        if int(first) > int(last):
            raise ValueError(f"the range {{{first}..{last}}} runs backwards: write the smaller number first")
        choices.append([f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)])
        choices.append([after])
    return ["".join(parts) for parts in itertools.product(*choices)]
