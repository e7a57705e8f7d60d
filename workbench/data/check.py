"""The checks of training data: a short one before every run, and the report of `workbench data check`."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from statistics import median
from typing import TYPE_CHECKING, Any

from PIL import Image

from workbench.data.captions import BLOCK, Captions, captions_of, most_shared, share_filling
from workbench.data.dataset import Dataset, Sample
from workbench.data.parallel import each_image
from workbench.data.sources.files import spread
from workbench.data.unusable import BadImageCount, Reading
from workbench.embeddings import BadImage, InputSpec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ImageSurvey:
    """Facts about the decoded images of a dataset.

    Attributes:
        sizes: width and height of each, in pixels.
        copies: groups of keys whose images are equal in every pixel.
        tally: count of unusable images.
    """

    sizes: list[tuple[int, int]] = field(default_factory=list)
    copies: list[list[str]] = field(default_factory=list)
    tally: BadImageCount = field(default_factory=BadImageCount)

    @property
    def num_copies(self) -> int:
        """Number of images that repeat another one."""
        return sum(len(keys) - 1 for keys in self.copies)

    def check(self) -> None:
        """Refuses images that a model cannot learn from.

        Raises:
            ValueError: too many are unusable, or all are the same.
        """
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
    return sample.key, sample.image.size, _digest(sample.image)


def _digest(image: Image.Image) -> bytes:
    return sha256(repr(image.size).encode() + image.tobytes()).digest()


NUM_SHOWN_IMAGES = 48
MANY_FALSE_NEGATIVES = 0.5  # expected per pair and batch
MANY_CUT = 0.2  # share of the captions


def preflight(dataset: Dataset, form: InputSpec, batch_size: int) -> list[str]:
    """Notes on the training pairs before a run: a few lines, or none.

    Compares all captions, and decodes a few dozen images spread over the dataset.

    Args:
        form: the student's input spec; its tokenizer decides which captions are too long.

    Raises:
        ValueError: a model cannot learn from the pairs: all captions or all images are the same, or too many images
            are unusable.
    """
    captions = captions_of(dataset)
    check_captions(captions)
    images = survey_images(dataset, spread(len(dataset), NUM_SHOWN_IMAGES))
    images.check()
    notes = list(_notes(dataset, captions, form, batch_size))
    if images.tally.num_unusable:
        notes.append(f"of a sample of the images, some cannot be used: {images.tally.describe()}")
    return notes


def check_captions(captions: Captions) -> None:
    """Refuses captions that are all the same.

    Raises:
        ValueError: they are.
    """
    if len(captions.group_N) > 1 and captions.num_distinct == 1:
        raise ValueError(
            f"all {len(captions.group_N):,} pairs have the same caption, {captions.first[:60]!r}: "
            "check where the captions are read from"
        )


def _notes(dataset: Dataset, captions: Captions, form: InputSpec, batch_size: int) -> Iterator[str]:
    expected = captions.false_negative_share * (batch_size - 1)
    if expected >= MANY_FALSE_NEGATIVES:
        yield (
            f"{len(captions.group_N):,} pairs share {captions.num_distinct:,} captions: in a batch of {batch_size}, "
            f"{expected:.1f} of a pair's {batch_size - 1} negatives have its caption on average"
        )
    filling = share_filling(dataset, form.tokenize)
    if filling >= MANY_CUT:
        length = form.tokenize([captions.first]).shape[1]
        yield (
            f"about {filling:.0%} of the captions fill the {length} tokens that the student reads, or are cut there: "
            "one with a longer text_cfg.context_length reads more"
        )


NUM_EXAMPLES = 3


@dataclass(frozen=True)
class Report:
    """The report of `workbench data check`.

    Attributes:
        shared: the most frequent captions of several images, with the number of images.
        share_cut: share of captions that 77 tokens would cut.
        class_sizes: images of each class, by its first name; None if the data have no classes.
        reading: what was left out when the data were opened.
        problem: why training would refuse the data; empty if it accepts them.
    """

    num_pairs: int
    captions: Captions
    shared: list[tuple[str, int]]
    share_cut: float
    images: ImageSurvey
    class_sizes: dict[str, int] | None
    reading: Reading
    problem: str

    def to_document(self) -> dict[str, Any]:
        """The report as JSON."""
        tally = self.images.tally
        return {
            "num_pairs": self.num_pairs,
            "num_captions": len(self.captions.text_M),
            "num_distinct_captions": self.captions.num_distinct,
            "words_per_caption": spread_of(self.captions.num_words_M.tolist()),
            "share_cut_at_77_tokens": self.share_cut,
            "num_captions_not_utf8": self.captions.num_undecoded,
            "num_captions_with_line_breaks": self.captions.num_with_line_breaks,
            "captions_left_out": dict(self.reading.left_out),
            "lines_are_captions": self.reading.lines_are_captions,
            "skipped_shards": list(self.reading.skipped_shards),
            "notes": list(self.reading.notes),
            "duplicate_captions": {
                "num_pairs": self.captions.num_pairs_sharing,
                "false_negative_share": self.captions.false_negative_share,
                "ceiling_text_to_image_r1": self.captions.ceiling,
                "block_size": BLOCK,
                "most_shared": [{"caption": caption, "num_pictures": count} for caption, count in self.shared],
            },
            "pictures": {
                "num_looked_at": tally.num_seen,
                "width_px": spread_of([width for width, _ in self.images.sizes]),
                "height_px": spread_of([height for _, height in self.images.sizes]),
                "num_duplicates": self.images.num_copies,
                "duplicates": self.images.copies[:NUM_EXAMPLES],
                "num_unusable": tally.num_unusable,
                "unusable": dict(tally.reasons.most_common()),
                "unusable_examples": tally.examples,
            },
            "classes": self.class_sizes,
            "problem": self.problem,
        }


def check(dataset: Dataset, num_images: int, tokenize: Callable[[Sequence[str]], "Tensor"]) -> Report:
    """Reads all captions, and decodes some images.

    Args:
        num_images: how many, a fixed random sample; 0 for all.
        tokenize: gives rows of one token more than models read, so that a full row is a caption that they cut.
    """
    captions = captions_of(dataset)
    chosen = _chosen(len(dataset), num_images)
    images = survey_images(dataset, chosen)
    return Report(
        num_pairs=len(dataset),
        captions=captions,
        shared=most_shared(dataset, captions, NUM_EXAMPLES),
        share_cut=share_filling(dataset, tokenize),
        images=images,
        class_sizes=_class_sizes(dataset),
        reading=dataset.reading,
        problem=_problem(captions, images, are_all=len(chosen) == len(dataset)),
    )


def spread_of(values: Sequence[int]) -> dict[str, float] | None:
    """Minimum, median and maximum; None if empty."""
    return {"min": min(values), "median": median(values), "max": max(values)} if values else None


def _chosen(total: int, count: int) -> Sequence[int]:
    if not 0 < count < total:
        return range(total)
    return sorted(random.Random(0).sample(range(total), count))


def _class_sizes(dataset: Dataset) -> dict[str, int] | None:
    """Images by class, largest first, with the classes that have none."""
    sizes = Counter({names[0]: 0 for names in dataset.classes or ()})
    labels = (dataset.text(index).label for index in range(len(dataset)))
    sizes.update(label for label in labels if label is not None)
    return dict(sizes.most_common()) or None


def _problem(captions: Captions, images: ImageSurvey, *, are_all: bool) -> str:
    """Why training would refuse the data at the start or later; empty if it accepts them.

    Training counts unusable images over all epochs. If all images were checked, too large a share is therefore certain
    to stop it, even if these are fewer than ``FEW``.
    """
    try:
        check_captions(captions)
        images.check()
        if are_all:
            images.tally.check(few=0)
    except ValueError as error:
        return str(error)
    return ""
