"""Opens a data SPEC: the text of ``data.train`` -> a ``Dataset``.

``open_dataset`` finds the function for the SPEC's scheme or suffix in ``SCHEMES`` and ``SUFFIXES``; a mixture opens
each of its parts. Next, :func:`workbench.data.cached.prepare.cached` may replace the dataset by one with decoded
images, and :class:`workbench.data.batches.BatchStream` makes batches of it.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

from workbench.config.mixture import Part, mixture_parts, mixture_spec
from workbench.config.run import DataConfig
from workbench.data.dataset import FORMS, Dataset, existing
from workbench.data.mixture import Mixture, split_pairs
from workbench.data.samples.registry import check_split, sample_shards
from workbench.data.sources.coco import coco_paths, karpathy_paths, open_coco, open_karpathy
from workbench.data.sources.csv import open_csv
from workbench.data.sources.folder import open_folder
from workbench.data.sources.parquet import open_parquet, open_saved, parquet_paths, saved_paths
from workbench.data.sources.remote import SCHEMES as REMOTE
from workbench.data.sources.remote import check_remote, remote_shards
from workbench.data.sources.tar import ShardDataset, shard_paths
from workbench.data.unusable import BadShards
from workbench.errors import unknown

Role = Literal["train", "validation", "test", "teacher"]

WITH_BOXES = ("coco-detection:", "samples:scenes-dense")  # opened by workbench.data.detection
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9_+.-]*):")


def open_dataset(spec: str, role: Role, num_pairs: int = 0, bad_shards: BadShards = "refuse") -> Dataset:
    """Opens the data that a SPEC names.

    Args:
        spec: one of the forms that :data:`~workbench.data.dataset.FORMS` lists; the split of ``samples:NAME`` is the
            role. A relative path is relative to the working directory.
        role: what the data are for.
        num_pairs: use only the first so many pairs; 0 for all. Sample sets draw as many as requested; a mixture
            divides them by its ratios.
        bad_shards: what to do with shards that are missing or cannot be read; see ``data.bad_shards``.

    Raises:
        ValueError: in one line: an unknown SPEC, no such data, unusable data, or too few pairs.
    """
    if not spec:
        raise ValueError(f"no data given: a SPEC is {FORMS}")
    parts = mixture_parts(spec)
    if not parts:
        return _open_single(spec, role, num_pairs, bad_shards)
    numbers = split_pairs(num_pairs, parts)
    opened = [_open_single(part.spec, role, number, bad_shards) for part, number in zip(parts, numbers, strict=True)]
    mixture = Mixture(opened, [part.ratio for part in parts])
    mixture.name = f"{spec}{_first(num_pairs)}"
    return mixture


def check_spec(spec: str, role: Role) -> None:
    """Checks that a SPEC names existing data, without reading files or drawing samples.

    Raises:
        ValueError: as :func:`open_dataset`.
    """
    if not spec:
        raise ValueError(f"no data given: a SPEC is {FORMS}")
    for part in [part.spec for part in mixture_parts(spec)] or [spec]:
        form, rest = _form(part)
        form.check(rest, role)


def evaluated_splits(data: DataConfig) -> list[tuple[Role, str, int]]:
    """(split, SPEC, number of pairs) of the evaluation data; "auto" is a sample set's own split, else nothing."""
    name = sample_set_of(data.train)
    same_set = f"samples:{name}" if name else ""
    named: tuple[tuple[Role, str, int], ...] = (
        ("validation", data.validation, data.num_validation_pairs),
        ("test", data.test, data.num_test_pairs),
    )
    chosen = ((split, same_set if spec == "auto" else spec, number) for split, spec, number in named)
    return [(split, spec, number) for split, spec, number in chosen if spec]


def no_held_out_pairs(source: str) -> ValueError:
    """The error for evaluating a model without pairs."""
    return ValueError(f"{source} names no held-out pairs: name some with --data SPEC")


def sample_set_of(spec: str) -> str:
    """The NAME of a SPEC that is ``samples:NAME[/SPLIT]``; empty for any other."""
    is_sample = spec.startswith("samples:") and not mixture_parts(spec)
    return spec.removeprefix("samples:").split("/")[0] if is_sample else ""


def is_remote(spec: str) -> bool:
    """Whether any data of a SPEC are on other machines."""
    names = [part.spec for part in mixture_parts(spec)] or [spec]
    return any(name.startswith(tuple(f"{scheme}:" for scheme in REMOTE)) for name in names)


def absolute_spec(spec: str) -> str:
    """The SPEC with absolute paths, valid from every working directory."""
    if parts := mixture_parts(spec):
        return mixture_spec([Part(absolute_spec(spec), ratio) for spec, ratio in parts])
    match = _SCHEME.match(spec)
    if not spec or spec == "auto":
        return spec
    if match is None or Path(spec).exists():
        return _absolute(spec)
    scheme, rest = match[1], spec[match.end() :]
    if scheme in ("coco", "coco-detection", "karpathy"):
        file, at, folder = rest.partition("@")
        name, suffix, split = file.partition(".json")  # karpathy:FILE.json/SPLIT@DIR
        return f"{scheme}:{_absolute(name + suffix)}{split}@{_absolute(folder)}" if at and folder else spec
    if scheme in ("parquet", "datasets"):
        path, at, folder = rest.rpartition("@")
        name, mark, columns = (path if at else rest).partition("#")
        return f"{scheme}:{_absolute(name)}{mark}{columns}" + (f"@{_absolute(folder)}" if at else "")
    return f"folder:{_absolute(rest)}" if scheme == "folder" and rest else spec


def _absolute(path: str) -> str:
    """A missing path stays as it was written, so that the error quotes it."""
    expanded = Path(path).expanduser()
    return str(expanded.absolute()) if expanded.exists() or "{" in path or "*" in path else path


def _name(spec: str, role: Role, num_pairs: int) -> str:
    """SPEC, split and number of pairs: unique among the datasets of one SPEC."""
    split = f"/{role}" if spec.startswith("samples:") and "/" not in spec else ""
    split = f", {role}" if spec.startswith("karpathy:") else split
    return f"{spec}{split}{_first(num_pairs)}"


def _first(num_pairs: int) -> str:
    return f", first {num_pairs:,}" if num_pairs else ""


def _open_single(spec: str, role: Role, num_pairs: int, bad_shards: BadShards) -> Dataset:
    form, rest = _form(spec)
    dataset = form.open(rest, role, num_pairs, bad_shards)
    dataset.name = _name(spec, role, num_pairs)
    return dataset


def _form(spec: str) -> tuple["Form", str]:
    """The form of a SPEC, and its text without the scheme.

    Raises:
        ValueError: unknown scheme, or data without captions.
    """
    match = _SCHEME.match(spec)
    if match is None or Path(spec).exists():  # a file may have a colon in its name
        return SUFFIXES.get(Path(spec).suffix.lower(), SHARDS), spec
    if spec.startswith(WITH_BOXES):
        raise ValueError(
            f"'{spec}' has boxes and no captions: measure a model on it with workbench dense --data {spec}"
        )
    scheme = match[1]
    if scheme not in SCHEMES:
        raise ValueError(f"{unknown('data', scheme + ':', [f'{name}:' for name in SCHEMES])}; a SPEC is {FORMS}")
    return SCHEMES[scheme], spec.removeprefix(f"{scheme}:")


def _open_samples(text: str, role: Role, num_pairs: int, _bad_shards: BadShards) -> Dataset:
    """``NAME[/SPLIT]`` of a sample set; its shards are drawn if they do not exist yet."""
    folder = sample_shards(*_name_and_split(text, role), num_pairs)
    return ShardDataset(shard_paths(str(folder)), num_pairs)


def _name_and_split(text: str, role: Role) -> tuple[str, str]:
    name, slash, split = text.partition("/")
    return name, split if slash else role


def _refuse_json(spec: str, *_: object) -> NoReturn:
    existing(spec, "file")
    raise ValueError(
        f"'{spec}' lists captions but not the folder of their images: write coco:{spec}@DIR for a file with "
        f"'annotations', or karpathy:{spec}@DIR for one with 'sentences' (dataset_coco.json, dataset_flickr30k.json)"
    )


class Form(NamedTuple):
    """A form of SPECs: how one is opened, and how it is checked without reading files."""

    open: Callable[[str, Role, int, BadShards], Dataset]
    check: Callable[[str, Role], object]


SHARDS = Form(
    lambda spec, _role, num_pairs, bad_shards: ShardDataset(shard_paths(spec), num_pairs, bad_shards),
    lambda spec, _role: shard_paths(spec),
)


def _remote(scheme: str) -> Form:
    """The form of shards on other machines, of which ``scheme:`` begins the URL."""
    return Form(
        lambda text, _role, num_pairs, bad_shards: ShardDataset(
            remote_shards(f"{scheme}:{text}"), num_pairs, bad_shards
        ),
        lambda text, _role: check_remote(f"{scheme}:{text}"),
    )


TABLE = Form(lambda spec, _role, num_pairs, _: open_csv(spec, num_pairs), lambda spec, _role: existing(spec, "file"))
PARQUET = Form(open_parquet, parquet_paths)
TABLES = dict.fromkeys((".csv", ".tsv", ".txt", ".token"), TABLE)
SUFFIXES = {**TABLES, ".parquet": PARQUET, ".json": Form(_refuse_json, _refuse_json)}
SCHEMES = {
    "samples": Form(_open_samples, lambda text, role: check_split(*_name_and_split(text, role))),
    "karpathy": Form(lambda spec, role, num_pairs, _: open_karpathy(spec, role, num_pairs), karpathy_paths),
    "coco": Form(lambda spec, _role, num_pairs, _: open_coco(spec, num_pairs), lambda spec, _role: coco_paths(spec)),
    "parquet": PARQUET,
    "datasets": Form(open_saved, saved_paths),
    "folder": Form(
        lambda spec, _role, num_pairs, _: open_folder(spec, num_pairs), lambda spec, _role: existing(spec, "folder")
    ),
    **{scheme: _remote(scheme) for scheme in REMOTE},
}
