"""CLIP_benchmark's zero-shot webdatasets: class numbers (``.cls``) in shards, names and templates in two text files."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from workbench.data.dataset import ZeroShotTask
from workbench.data.sources.tar_index import IndexedSample, ShardIndex
from workbench.documents import read_file
from workbench.prompts import CAPTION, fill

NAMES_FILE = "classnames.txt"
TEMPLATES_FILE = "zeroshot_classification_templates.txt"
MAX_BYTES = 1 << 24


def read_task(shards: Sequence[ShardIndex]) -> ZeroShotTask | None:
    """The classes of shards whose samples have class numbers and no captions; None for shards with captions.

    The text files are in the folder of the shards or in its parent.

    Raises:
        ValueError: there is no ``classnames.txt``, or one of the two files cannot be used.
    """
    if any(sample.captions for sample in _samples(shards)) or all(one.number is None for one in _samples(shards)):
        return None
    inner = shards[0].path.parent
    folder = next((one for one in (inner, inner.parent) if (one / NAMES_FILE).exists()), None)
    if folder is None:
        raise ValueError(
            f"the shards in '{inner}' have class numbers (.cls) and no captions: put CLIP_benchmark's {NAMES_FILE} and "
            f"{TEMPLATES_FILE} into that folder"
        )
    names = _lines(folder / NAMES_FILE)
    if not all(names):
        raise ValueError(f"line {names.index('') + 1} of '{folder / NAMES_FILE}' is blank: each line names one class")
    templates = [line for line in _lines(folder / TEMPLATES_FILE) if line]
    if not templates or any(line.count("{c}") != 1 or "{}" in line for line in templates):
        raise ValueError(
            f"'{folder / TEMPLATES_FILE}' must have a prompt a line, each with one {{c}} for the class name, as in "
            "'a photo of a {c}.'"
        )
    classes = tuple((name,) for name in names)
    return ZeroShotTask(classes, tuple(line.replace("{c}", "{}") for line in templates), verbatim=True)


def with_prompts(shard: ShardIndex, task: ZeroShotTask) -> ShardIndex:
    """The shard with a class-name prompt as the caption of every sample that has a class number.

    Raises:
        ValueError: a number without a name.
    """
    return replace(shard, samples=tuple(_prompted(sample, shard.path, task) for sample in shard.samples))


def _prompted(sample: IndexedSample, path: Path, task: ZeroShotTask) -> IndexedSample:
    number = sample.number
    if number is None:
        return sample
    if not 0 <= number < len(task.classes):
        raise ValueError(
            f"shard '{path}', {sample.key!r}: class {number} is not one of the {len(task.classes)} in {NAMES_FILE}, "
            "which are numbered from 0"
        )
    (name,) = task.classes[number]
    return sample._replace(captions=(fill(CAPTION, name),), group=name, label=task.labels[number], left_out=())


def _samples(shards: Sequence[ShardIndex]) -> chain[IndexedSample]:
    return chain.from_iterable(shard.samples for shard in shards)


def _lines(path: Path) -> list[str]:
    try:
        text = read_file(path, MAX_BYTES).decode("utf-8-sig", errors="replace")
    except FileNotFoundError as error:
        raise ValueError(f"there is no '{path}': copy it from CLIP_benchmark's data") from error
    return [line.strip() for line in text.splitlines()]
