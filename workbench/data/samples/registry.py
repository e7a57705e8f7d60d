"""The sample sets by name, and `samples:NAME/SPLIT` -> a folder of shards: shipped, cached or newly drawn."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from workbench.data.dataset import ZeroShotTask
from workbench.data.samples.write import DrawnSample, fault_of_samples, num_pairs_in, write_shards
from workbench.errors import unknown
from workbench.files import explained, sweep
from workbench.progress import progress
from workbench.resources import cache_dir, find_resource

PAIRS_PER_SHARD = 2_000


@dataclass(frozen=True)
class SampleSet:
    """Description of a sample set.

    Increase `version` when the same image would be drawn differently; it is part of the cache's path.
    `default_pairs` is the default size of each split; 0 for a split of fixed size.
    """

    name: str
    version: int
    image_format: str
    default_pairs: Mapping[str, int]
    draw: Callable[[str, int], Iterator[DrawnSample]]  # (split, number of pairs; 0 for all)
    zero_shot: Callable[[], ZeroShotTask] | None = None


def sample_set(name: str) -> SampleSet:
    """The sample set called `name`. Raises ValueError with the closest name if there is none."""
    if name not in SAMPLE_SETS:
        raise unknown("sample set", name, SAMPLE_SETS)
    return SAMPLE_SETS[name]


def check_split(name: str, split: str) -> None:
    """Raises ValueError with the closest name if the sample set or the split does not exist."""
    chosen = sample_set(name)
    if split not in chosen.default_pairs:
        raise unknown(f"split of samples:{name}", split, chosen.default_pairs)


def zero_shot_task(name: str) -> ZeroShotTask | None:
    """The classes and templates of a sample set, or None if it has no zero-shot task."""
    task = sample_set(name).zero_shot
    return task() if task else None


def sample_shards(name: str, split: str, num_pairs: int = 0) -> Path:
    """A folder of shards whose first `num_pairs` pairs are those of the split (0: the split's default size).

    This is the shipped folder if it has enough pairs (it may have more); else the pairs are drawn once into the cache,
    with progress on stderr.

    Raises:
        ValueError: unknown set or split, or a negative number.
    """
    chosen = sample_set(name)
    wanted = _wanted(chosen, split, num_pairs)
    shipped = find_resource(f"data_samples/{name}/{split}")
    if shipped and _serves(shipped, chosen.default_pairs[split], wanted):
        return shipped
    folder = cache_dir() / "samples" / f"{name}-v{chosen.version}" / f"{split}-{wanted or 'all'}"
    if num_pairs_in(folder):
        return folder
    with explained(folder, "name another folder in WORKBENCH_CACHE"):
        for set_folder in folder.parents[1].glob("*"):
            sweep(set_folder)
        return draw_shards(name, split, wanted, folder)


def draw_shards(name: str, split: str, num_pairs: int, folder: Path) -> Path:
    """Draws the first `num_pairs` pairs of a split (0: the default size) into `folder`; progress on stderr."""
    chosen = sample_set(name)
    wanted = _wanted(chosen, split, num_pairs)
    samples = progress(chosen.draw(split, wanted), wanted, f"drawing samples:{name}/{split}")
    return write_shards(
        samples, folder, image_format=chosen.image_format, pairs_per_shard=PAIRS_PER_SHARD, num_pairs=wanted
    )


def check_drawable(name: str, split: str, num_pairs: int, folder: Path) -> None:
    """Raises at once the ValueError that `draw_shards` would raise after drawing all pairs."""
    wanted = _wanted(sample_set(name), split, num_pairs)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if fault_of_samples(folder) or (wanted and num_pairs_in(folder) != wanted):
        raise ValueError(f"{folder} exists already and has other content: name another folder with --out")


def _wanted(chosen: SampleSet, split: str, num_pairs: int) -> int:
    """The number of pairs to draw; 0 for all of a split of fixed size."""
    check_split(chosen.name, split)
    if num_pairs < 0:
        raise ValueError(
            f"samples:{chosen.name}/{split} cannot hold {num_pairs} pairs: ask for 0 (its usual size) or more"
        )
    return num_pairs or chosen.default_pairs[split]


def _serves(shipped: Path, default: int, wanted: int) -> bool:
    """Whether a shipped folder has enough pairs; that of a split of fixed size has all."""
    held = num_pairs_in(shipped)
    return held > 0 and (default == 0 or held >= wanted)


# Imported only when needed: the shipped shards need neither to be trained on.


def _draw_scenes(split: str, num_pairs: int) -> Iterator[DrawnSample]:
    from workbench.data.samples import scenes

    return scenes.draw(split, 0, num_pairs)


def _scenes_task() -> ZeroShotTask:
    from workbench.data.samples import scenes

    return scenes.zero_shot()


def _draw_emoji(split: str, num_pairs: int) -> Iterator[DrawnSample]:
    from workbench.data.samples import emoji

    return islice(emoji.draw(split), num_pairs or None)


def _emoji_task() -> ZeroShotTask:
    from workbench.data.samples import emoji_kinds

    return emoji_kinds.zero_shot()


SAMPLE_SETS: dict[str, SampleSet] = {
    "scenes": SampleSet(
        name="scenes",
        version=1,
        image_format="jpeg",
        default_pairs={"train": 4_000, "teacher": 60_000, "validation": 5_000, "test": 5_000},
        draw=_draw_scenes,
        zero_shot=_scenes_task,
    ),
    "emoji": SampleSet(
        name="emoji",
        version=1,
        image_format="webp",
        default_pairs={"train": 0, "teacher": 0, "validation": 0, "test": 0},
        draw=_draw_emoji,
        zero_shot=_emoji_task,
    ),
}
