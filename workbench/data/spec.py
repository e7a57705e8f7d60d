"""A data SPEC, as people write it -> a data set."""

import difflib
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from workbench.config.nearest import unknown
from workbench.data.sample import Dataset
from workbench.data.samples.registry import sample_shards
from workbench.data.shards import ShardDataset

Role = Literal["train", "validation", "test", "teacher"]

FORMS = "samples:NAME[/SPLIT], FILE.tar, DIR of .tar files, or DIR/{00000..00099}.tar"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9_+.-]*):")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def open_dataset(spec: str, role: Role, num_pairs: int = 0) -> Dataset:
    """Opens the data that a SPEC names.

    Args:
        spec: ``samples:NAME`` (its split is the role), ``samples:NAME/SPLIT``, or webdataset shards: one
            ``.tar``, a folder that holds some, or a brace range of them. A relative path starts at the
            working directory.
        role: what the data are for.
        num_pairs: how many pairs at most, the first ones; 0 for all. Sample sets draw as many as are asked for.

    Raises:
        ValueError: in one line: an unknown SPEC, nothing there, an unusable shard, or too few pairs.
    """
    if not spec:
        raise ValueError(f"no data are named: a SPEC is {FORMS}")
    match = _SCHEME.match(spec)
    if match is None or Path(spec).exists():
        return _open_shards(spec, num_pairs)
    scheme = match[1]
    if scheme not in SCHEMES:
        raise ValueError(f"{unknown('data', scheme + ':', [f'{name}:' for name in SCHEMES])}; a SPEC is {FORMS}")
    return SCHEMES[scheme](spec.removeprefix(f"{scheme}:"), role, num_pairs)


def _open_samples(name: str, role: Role, num_pairs: int) -> Dataset:
    """``NAME[/SPLIT]`` of the drawn sample sets."""
    name, slash, split = name.partition("/")
    folder = sample_shards(name, split if slash else role, num_pairs)
    return _open_shards(str(folder), num_pairs)


def _open_shards(spec: str, num_pairs: int) -> Dataset:
    return ShardDataset(shard_paths(spec), num_pairs)


SCHEMES: dict[str, Callable[[str, Role, int], Dataset]] = {"samples": _open_samples}


def shard_paths(spec: str) -> list[Path]:
    """The shards that a path, a folder or a brace range names, in order.

    Raises:
        ValueError: one of them does not exist, there are none, or they are no tars.
    """
    paths = [Path(text).expanduser() for text in _expand(spec)]
    missing = [path for path in paths if not path.exists()]
    if missing and len(paths) > 1:
        raise ValueError(f"{len(missing)} of {len(paths)} shards of '{spec}' are missing, first '{missing[0]}'")
    if missing:
        raise _no_such_path(missing[0])
    if len(paths) == 1 and paths[0].is_dir():
        found = sorted(paths[0].glob("*.tar"))
        if not found:
            raise ValueError(f"no .tar files in the folder '{paths[0]}': a SPEC is {FORMS}")
        return found
    for path in paths:
        if path.suffix != ".tar" or not path.is_file():
            raise ValueError(f"'{path}' is no .tar file: a SPEC is {FORMS}")
    return paths


def _no_such_path(path: Path) -> ValueError:
    """The error for a path that is not there, with the nearest name that is."""
    seen_from = "" if path.is_absolute() else f" in {Path.cwd()}"
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    remedy = f"did you mean '{path.parent / close[0]}'?" if close else f"a SPEC is {FORMS}"
    return ValueError(f"no such data '{path}'{seen_from}: {remedy}")


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
