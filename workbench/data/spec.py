"""A data SPEC, as people write it -> a data set."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from workbench.config.nearest import unknown
from workbench.config.run import DataConfig
from workbench.data.coco import coco_paths, open_coco
from workbench.data.csv_pairs import open_csv
from workbench.data.folder import open_folder
from workbench.data.forms import FORMS, existing
from workbench.data.mixture import mixture_parts, open_mixture
from workbench.data.sample import Dataset
from workbench.data.samples.registry import check_split, sample_shards
from workbench.data.shard_paths import shard_paths
from workbench.data.shards import ShardDataset

Role = Literal["train", "validation", "test", "teacher"]
Keep = Callable[[str, Dataset, float], Dataset]  # its name, the data set, and its share of every batch

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9_+.-]*):")


def open_dataset(
    spec: str, role: Role, num_pairs: int = 0, keep: Keep = lambda _name, dataset, _share: dataset
) -> Dataset:
    """Opens the data that a SPEC names.

    Args:
        spec: one of the forms that :data:`~workbench.data.forms.FORMS` lists; the split of ``samples:NAME`` is the
            role. A relative path starts at the working directory.
        role: what the data are for.
        num_pairs: how many pairs at most, the first ones; 0 for all. Sample sets draw as many as are asked for, and a
            mixture divides them by its ratios.
        keep: makes another of what is opened, such as one with prepared pictures; each part of a mixture by itself.

    Raises:
        ValueError: in one line: an unknown SPEC, nothing there, unusable data, or too few pairs.
    """
    if not spec:
        raise ValueError(f"no data are named: a SPEC is {FORMS}")

    def open_single(part: str, number: int, share: float) -> Dataset:
        return keep(_name(part, role, number), _open_single(part, role, number), share)

    if parts := mixture_parts(spec):
        return open_mixture(parts, open_single, num_pairs)
    return open_single(spec, num_pairs, 1.0)


def check_spec(spec: str, role: Role) -> None:
    """Refuse a SPEC that names nothing; what is in its files is not looked at, and no sample is drawn.

    Raises:
        ValueError: as :func:`open_dataset`.
    """
    if not spec:
        raise ValueError(f"no data are named: a SPEC is {FORMS}")
    for part in [part.spec for part in mixture_parts(spec)] or [spec]:
        scheme, rest = _scheme(part)
        if scheme == "samples":
            name, slash, split = rest.partition("/")
            check_split(name, split if slash else role)
        elif scheme == "coco":
            coco_paths(rest)
        elif scheme == "folder":
            existing(rest, "folder")
        elif Path(part).suffix.lower() in SUFFIXES:
            existing(part, "file")
        else:
            shard_paths(part)


def evaluated_splits(data: DataConfig) -> list[tuple[Role, str, int]]:
    """(split, SPEC, number of pairs) of what is measured; "auto" is a sample set's own split, and nothing elsewhere."""
    name = sample_set_of(data.train)
    own = f"samples:{name}" if name else ""
    named: tuple[tuple[Role, str, int], ...] = (
        ("validation", data.validation, data.num_validation_pairs),
        ("test", data.test, data.num_test_pairs),
    )
    chosen = ((split, own if spec == "auto" else spec, number) for split, spec, number in named)
    return [(split, spec, number) for split, spec, number in chosen if spec]


def sample_set_of(spec: str) -> str:
    """The NAME of a SPEC that is ``samples:NAME[/SPLIT]``; empty for any other."""
    is_sample = spec.startswith("samples:") and not mixture_parts(spec)
    return spec.removeprefix("samples:").split("/")[0] if is_sample else ""


def _name(spec: str, role: Role, num_pairs: int) -> str:
    """What tells a data set from the others of its SPEC: the split of a sample set, and how many pairs are taken."""
    split = f"/{role}" if spec.startswith("samples:") and "/" not in spec else ""
    return f"{spec}{split}" + (f", first {num_pairs:,}" if num_pairs else "")


def _open_single(spec: str, role: Role, num_pairs: int) -> Dataset:
    scheme, rest = _scheme(spec)
    if scheme:
        return SCHEMES[scheme](rest, role, num_pairs)
    opener = SUFFIXES.get(Path(spec).suffix.lower(), _open_shards)
    return opener(spec, num_pairs)


def _scheme(spec: str) -> tuple[str, str]:
    """``samples``, ``coco`` or ``folder`` with what follows; an empty scheme where the SPEC is a path.

    Raises:
        ValueError: there is no such scheme.
    """
    match = _SCHEME.match(spec)
    if match is None or Path(spec).exists():
        return "", spec
    scheme = match[1]
    if scheme not in SCHEMES:
        raise ValueError(f"{unknown('data', scheme + ':', [f'{name}:' for name in SCHEMES])}; a SPEC is {FORMS}")
    return scheme, spec.removeprefix(f"{scheme}:")


def _open_samples(name: str, role: Role, num_pairs: int) -> Dataset:
    """``NAME[/SPLIT]`` of the drawn sample sets."""
    name, slash, split = name.partition("/")
    folder = sample_shards(name, split if slash else role, num_pairs)
    return _open_shards(str(folder), num_pairs)


def _open_shards(spec: str, num_pairs: int) -> Dataset:
    return ShardDataset(shard_paths(spec), num_pairs)


SCHEMES: dict[str, Callable[[str, Role, int], Dataset]] = {
    "samples": _open_samples,
    "coco": lambda spec, _role, num_pairs: open_coco(spec, num_pairs),
    "folder": lambda spec, _role, num_pairs: open_folder(spec, num_pairs),
}
SUFFIXES: dict[str, Callable[[str, int], Dataset]] = {".csv": open_csv, ".tsv": open_csv}
