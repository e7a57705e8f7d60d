"""The checks of training data: a short one before every run, and the report of `workbench data check`."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from statistics import median
from typing import TYPE_CHECKING, Any

from workbench.data.captions import BLOCK, Captions, captions_of, most_shared, share_filling
from workbench.data.dataset import Dataset, Sample
from workbench.data.parallel import each_image
from workbench.data.unusable import BadImageCount
from workbench.embeddings import BadImage, InputSpec

if TYPE_CHECKING:
    from torch import Tensor


NUM_SHOWN_IMAGES = 48
MOST_COMPARED = 500_000  # images whose captions are compared at every start of a run: some seconds
NUM_EXAMPLES = 3
MANY_FALSE_NEGATIVES = 0.5  # expected per pair and batch
MANY_CUT = 0.2  # share of the captions


def preflight(dataset: Dataset, form: InputSpec, batch_size: int) -> list[str]:
    """Notes on the training pairs before a run: a few lines, or none.

    Compares the captions of up to half a million images, and decodes a few dozen images, both spread over the dataset.

    Args:
        form: the student's input spec; its tokenizer decides which captions are too long.

    Raises:
        ValueError: a model cannot learn from the pairs: all captions or all images are the same, or too many images
            are unusable.
    """
    captions = captions_of(dataset, MOST_COMPARED)
    _check_captions(captions)
    images = survey_images(dataset, dataset.probed(NUM_SHOWN_IMAGES))
    images.check()
    notes = list(_notes(dataset, captions, form, batch_size))
    if images.tally.num_unusable:
        notes.append(f"of a sample of the images, some cannot be used: {images.tally.describe()}")
    return notes


def _check_captions(captions: Captions) -> None:
    """Raises ValueError if all pairs have the same caption."""
    if len(captions.group_N) > 1 and captions.num_distinct == 1:
        raise ValueError(
            f"all {len(captions.group_N):,} pairs have the same caption, {captions.first[:60]!r}: "
            "check where the captions are read from"
        )


def _notes(dataset: Dataset, captions: Captions, form: InputSpec, batch_size: int) -> Iterator[str]:
    expected = captions.false_negative_share * (batch_size - 1)
    if expected >= MANY_FALSE_NEGATIVES:
        sample = "a sample of " if len(captions.group_N) < len(dataset) else ""
        yield (
            f"{sample}{len(captions.group_N):,} pairs share {captions.num_distinct:,} captions: "
            f"in a batch of {batch_size}, {expected:.1f} of a pair's {batch_size - 1} negatives have its caption "
            "on average"
        )
    filling = share_filling(dataset, form.tokenize)
    if filling >= MANY_CUT:
        length = form.tokenize([captions.first]).shape[1]
        yield (
            f"about {filling:.0%} of the captions fill the {length} tokens that the student reads, or are cut there: "
            "one with a longer text_cfg.context_length reads more"
        )


@dataclass(frozen=True)
class ImageSurvey:
    """Facts about the decoded images of a dataset."""

    sizes: list[tuple[int, int]] = field(default_factory=list)  # width and height, in pixels
    copies: list[list[str]] = field(default_factory=list)  # groups of keys whose images are equal in every pixel
    tally: BadImageCount = field(default_factory=BadImageCount)

    @property
    def num_copies(self) -> int:
        """Number of images that repeat another one."""
        return sum(len(keys) - 1 for keys in self.copies)

    def check(self) -> None:
        """Raises ValueError if a model cannot learn from the images: too many are unusable, or all are the same."""
        self.tally.check()
        if len(self.sizes) > 1 and self.num_copies == len(self.sizes) - 1:
            raise ValueError(
                f"all {len(self.sizes):,} checked images are the same (such as "
                f"{', '.join(map(repr, self.copies[0][:3]))}): check how they were downloaded or copied"
            )


def survey_images(dataset: Dataset, indices: Sequence[int]) -> ImageSurvey:
    """Decodes some images and compares their pixels."""
    found = ImageSurvey()
    keys: dict[bytes, list[str]] = {}
    for _, seen in each_image(dataset, indices, _facts):
        if isinstance(seen, BadImage):
            found.tally.add(1, [seen])
            continue
        key, size, digest = seen
        found.tally.add(1, [])
        found.sizes.append(size)
        keys.setdefault(digest, []).append(key)  # digests, not pixels: memory stays small for any number of images
    found.copies.extend(sorted((same for same in keys.values() if len(same) > 1), key=len, reverse=True))
    return found


def _facts(sample: Sample) -> tuple[str, tuple[int, int], bytes]:
    """Key, size and a digest of size and pixels."""
    size = sample.image.size
    return sample.key, size, sha256(repr(size).encode() + sample.image.tobytes()).digest()


def check(dataset: Dataset, num_images: int, tokenize: Callable[[Sequence[str]], "Tensor"]) -> dict[str, Any]:
    """The report of `workbench data check`, as JSON: reads all captions, and decodes some images.

    Args:
        num_images: how many, a fixed random sample; 0 for all.
        tokenize: gives rows of one token more than models read, so that a full row is a caption that they cut.
    """
    captions, reading = captions_of(dataset), dataset.reading
    chosen = _chosen(len(dataset), num_images)
    images = survey_images(dataset, chosen)
    tally = images.tally
    shared = most_shared(dataset, captions, NUM_EXAMPLES)
    return {
        "num_pairs": len(dataset),
        "num_captions": len(captions.text_M),
        "num_distinct_captions": captions.num_distinct,
        "num_synthetic_captions": captions.num_synthetic,
        "words_per_caption": _spread_of(captions.num_words_M.tolist()),
        "share_cut_at_77_tokens": share_filling(dataset, tokenize),
        "num_captions_not_utf8": captions.num_undecoded,
        "num_captions_with_line_breaks": captions.num_with_line_breaks,
        "captions_left_out": dict(reading.left_out),
        "lines_are_captions": reading.lines_are_captions,
        "skipped_shards": list(reading.skipped_shards),
        "notes": list(reading.notes),
        "duplicate_captions": {
            "num_pairs": captions.num_pairs_sharing,
            "false_negative_share": captions.false_negative_share,
            "ceiling_text_to_image_r1": captions.ceiling,
            "block_size": BLOCK,
            "most_shared": [{"caption": caption, "num_pictures": count} for caption, count in shared],
        },
        "pictures": {
            "num_looked_at": tally.num_seen,
            "width_px": _spread_of([width for width, _ in images.sizes]),
            "height_px": _spread_of([height for _, height in images.sizes]),
            "num_duplicates": images.num_copies,
            "duplicates": images.copies[:NUM_EXAMPLES],
            "num_unusable": tally.num_unusable,
            "unusable": dict(tally.reasons.most_common()),
            "unusable_examples": tally.examples,
        },
        "classes": _class_sizes(dataset),  # images of each class, by its first name
        "problem": _problem(captions, images, are_all=len(chosen) == len(dataset)),
    }


def _spread_of(values: Sequence[int]) -> dict[str, float] | None:
    return {"min": min(values), "median": median(values), "max": max(values)} if values else None


def _chosen(total: int, count: int) -> Sequence[int]:
    if not 0 < count < total:
        return range(total)
    return sorted(random.Random(0).sample(range(total), count))


def _class_sizes(dataset: Dataset) -> dict[str, int] | None:
    """Images by class, largest first, with the classes that have none."""
    sizes = Counter(dict.fromkeys(dataset.task.labels if dataset.task else (), 0))
    labels = (dataset.text(index).label for index in range(len(dataset)))
    sizes.update(label for label in labels if label is not None)
    return dict(sizes.most_common()) or None


def _problem(captions: Captions, images: ImageSurvey, *, are_all: bool) -> str:
    """Why training would refuse the data at the start or later; empty if it accepts them.

    Training counts unusable images over all epochs. If all images were checked, too large a share is therefore certain
    to stop it, even if these are fewer than ``FEW``.
    """
    try:
        _check_captions(captions)
        images.check()
        if are_all:
            images.tally.check(few=0)
    except ValueError as error:
        return str(error)
    return ""
