"""A data SPEC, as people write it -> a data set."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from workbench.config.run import DataConfig
from workbench.data.dataset import FORMS, Dataset, existing
from workbench.data.mixture import mixture_parts, open_mixture
from workbench.data.samples.registry import check_split, sample_shards
from workbench.data.sources.coco import coco_paths, open_coco
from workbench.data.sources.csv import open_csv
from workbench.data.sources.folder import open_folder
from workbench.data.sources.karpathy import karpathy_paths, open_karpathy
from workbench.data.sources.tar import BadShards, ShardDataset, shard_paths
from workbench.errors import unknown

Role = Literal["train", "validation", "test", "teacher"]
Keep = Callable[[str, Dataset, float], Dataset]  # its name, the data set, and its share of every batch

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9_+.-]*):")


def open_dataset(
    spec: str,
    role: Role,
    num_pairs: int = 0,
    keep: Keep = lambda _name, dataset, _share: dataset,
    bad_shards: BadShards = "refuse",
) -> Dataset:
    """Opens the data that a SPEC names.

    Args:
        spec: one of the forms that :data:`~workbench.data.dataset.FORMS` lists; the split of ``samples:NAME`` is the
            role. A relative path starts at the working directory.
        role: what the data are for.
        num_pairs: how many pairs at most, the first ones; 0 for all. Sample sets draw as many as are asked for, and a
            mixture divides them by its ratios.
        keep: makes another of what is opened, such as one with prepared pictures; each part of a mixture by itself.
        bad_shards: what to do with shards that are missing or cannot be read; see ``data.bad_shards``.

    Raises:
        ValueError: in one line: an unknown SPEC, nothing there, unusable data, or too few pairs.
    """
    if not spec:
        raise ValueError(f"no data are named: a SPEC is {FORMS}")

    def open_single(part: str, number: int, share: float) -> Dataset:
        return keep(_name(part, role, number), _open_single(part, role, number, bad_shards), share)

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
        elif scheme == "karpathy":
            karpathy_paths(rest, role)
        elif scheme == "folder":
            existing(rest, "folder")
        elif Path(part).suffix.lower() == ".json":
            _refuse_json(part, 0)
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


def absolute_spec(spec: str) -> str:
    """The same SPEC with its paths absolute, so that it means the same from every working directory."""
    if parts := mixture_parts(spec):
        return " + ".join(absolute_spec(part.spec) + ("" if part.ratio == 1 else f"*{part.ratio!r}") for part in parts)
    match = _SCHEME.match(spec)
    if not spec or spec == "auto":
        return spec
    if match is None or Path(spec).exists():
        return _absolute(spec)
    scheme, rest = match[1], spec[match.end() :]
    if scheme in ("coco", "karpathy"):
        file, at, folder = rest.partition("@")
        name, suffix, split = file.partition(".json")  # karpathy:FILE.json/SPLIT@DIR
        return f"{scheme}:{_absolute(name + suffix)}{split}@{_absolute(folder)}" if at and folder else spec
    return f"folder:{_absolute(rest)}" if scheme == "folder" and rest else spec


def _absolute(path: str) -> str:
    """A path that is not there stays as it was written, for the error that names it."""
    whole = Path(path).expanduser()
    return str(whole.absolute()) if whole.exists() or "{" in path else path


def _name(spec: str, role: Role, num_pairs: int) -> str:
    """What tells a data set from the others of its SPEC: the split of a sample set, and how many pairs are taken."""
    split = f"/{role}" if spec.startswith("samples:") and "/" not in spec else ""
    split = f", {role}" if spec.startswith("karpathy:") else split
    return f"{spec}{split}" + (f", first {num_pairs:,}" if num_pairs else "")


def _open_single(spec: str, role: Role, num_pairs: int, bad_shards: BadShards) -> Dataset:
    scheme, rest = _scheme(spec)
    if scheme:
        return SCHEMES[scheme](rest, role, num_pairs)
    suffix = Path(spec).suffix.lower()
    return SUFFIXES[suffix](spec, num_pairs) if suffix in SUFFIXES else _open_shards(spec, num_pairs, bad_shards)


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


def _open_shards(spec: str, num_pairs: int, bad_shards: BadShards = "refuse") -> Dataset:
    return ShardDataset(shard_paths(spec), num_pairs, bad_shards)


def _refuse_json(spec: str, _num_pairs: int) -> Dataset:
    existing(spec, "file")
    raise ValueError(
        f"'{spec}' lists captions without saying where the images are: write coco:{spec}@DIR for a file with "
        f"'annotations', or karpathy:{spec}@DIR for one with 'sentences' (dataset_coco.json, dataset_flickr30k.json)"
    )


SCHEMES: dict[str, Callable[[str, Role, int], Dataset]] = {
    "samples": _open_samples,
    "karpathy": open_karpathy,
    "coco": lambda spec, _role, num_pairs: open_coco(spec, num_pairs),
    "folder": lambda spec, _role, num_pairs: open_folder(spec, num_pairs),
}
SUFFIXES: dict[str, Callable[[str, int], Dataset]] = {
    ".csv": open_csv,
    ".tsv": open_csv,
    ".txt": open_csv,
    ".json": _refuse_json,
}
