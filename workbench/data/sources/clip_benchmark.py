"""CLIP_benchmark's webdatasets: class numbers (``.cls``) in shards with names and templates in two text files, or
several captions an image.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from workbench.data.dataset import ZeroShotTask
from workbench.data.sources.tar_index import IndexedSample
from workbench.data.sources.tar_table import ShardTable
from workbench.documents import read_file
from workbench.prompts import CAPTION, fill

NAMES_FILE = "classnames.txt"
TEMPLATES_FILE = "zeroshot_classification_templates.txt"
TYPE_FILE = "dataset_type.txt"
RETRIEVAL = "retrieval"  # in that file: every line of a .txt is a caption
MAX_BYTES = 1 << 24


def read_task(shards: Sequence[ShardTable]) -> ZeroShotTask | None:
    """The classes of shards whose samples have class numbers and no captions; None for shards with captions.

    The text files are in the folder of the shards or in its parent.

    Raises:
        ValueError: there is no ``classnames.txt``, or one of the two files cannot be used.
    """
    has_captions = any(len(shard) and not shard.summary.numbers for shard in shards)
    if has_captions or not any(shard.summary.numbers for shard in shards):
        return None
    folder = _folder_with(NAMES_FILE, shards)
    if folder is None:
        raise ValueError(
            f"the shards in '{shards[0].path.parent}' have class numbers (.cls) and no captions: put CLIP_benchmark's "
            f"{NAMES_FILE} and {TEMPLATES_FILE} into that folder"
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


def is_retrieval(shards: Sequence[ShardTable]) -> bool:
    """Whether ``dataset_type.txt``, in the folder of the shards or in its parent, declares captions line by line."""
    folder = _folder_with(TYPE_FILE, shards)
    return folder is not None and _lines(folder / TYPE_FILE)[:1] == [RETRIEVAL]


def _folder_with(name: str, shards: Sequence[ShardTable]) -> Path | None:
    inner = shards[0].path.parent
    return next((one for one in (inner, inner.parent) if (one / name).exists()), None)


def checked(shard: ShardTable, task: ZeroShotTask | None) -> ShardTable:
    """The shard, without its samples if they have class numbers and the others have captions.

    Raises:
        ValueError: a number without a name.
    """
    numbers = shard.summary.numbers
    if numbers and not task:
        return replace(shard, num_pairs=0)
    if task and max(numbers, default=0) >= len(task.classes):
        sample = shard[numbers.index(max(numbers))]
        raise ValueError(
            f"shard '{shard.path}', {sample.key!r}: class {sample.number} is not one of the {len(task.classes)} in "
            f"{NAMES_FILE}, which are numbered from 0"
        )
    return shard


def prompted(sample: IndexedSample, task: ZeroShotTask) -> IndexedSample:
    """A sample with a class number, with a class-name prompt as its caption."""
    assert sample.number is not None
    (name,) = task.classes[sample.number]
    return sample._replace(captions=(fill(CAPTION, name),), group=name, label=task.labels[sample.number])


def _lines(path: Path) -> list[str]:
    try:
        text = read_file(path, MAX_BYTES).decode("utf-8-sig", errors="replace")
    except FileNotFoundError as error:
        raise ValueError(f"there is no '{path}': copy it from CLIP_benchmark's data") from error
    return [line.strip() for line in text.rstrip().split("\n")]  # splitlines would also end lines at U+2028
