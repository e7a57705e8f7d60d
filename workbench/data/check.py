"""Everything that `workbench data check` finds out about a data set."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from workbench.data.captions import BLOCK, Captions, captions_of, most_shared, share_filling
from workbench.data.dataset import Dataset
from workbench.data.sources.files import spread
from workbench.data.survey import Pictures, look_at
from workbench.data.unusable import Reading
from workbench.embeddings import InputSpec

if TYPE_CHECKING:
    from torch import Tensor


# A short look at training data before a night is spent on them: nonsense is refused, and what is odd is said.

NUM_SHOWN_IMAGES = 48
MANY_FALSE_NEGATIVES = 0.5  # to a pair, in a batch
MANY_CUT = 0.2  # of the captions


def preflight(dataset: Dataset, form: InputSpec, batch_size: int) -> list[str]:
    """What a person should know of the pairs before they are trained on: a few lines, or none.

    All captions are compared, and a few dozen pictures from all over the data decoded.

    Args:
        form: what the student is fed; its tokenizer says which captions are too long.

    Raises:
        ValueError: nothing can be learnt from the pairs: all captions or all pictures are the same, or hardly a picture
            can be used.
    """
    captions = captions_of(dataset)
    check_captions(captions)
    pictures = look_at(dataset, spread(len(dataset), NUM_SHOWN_IMAGES))
    pictures.check()
    notes = list(_notes(dataset, captions, form, batch_size))
    if pictures.tally.num_unusable:
        notes.append(f"of some pictures looked at, these cannot be used: {pictures.tally.describe()}")
    return notes


def check_captions(captions: Captions) -> None:
    """Refuses captions that tell nothing apart.

    Raises:
        ValueError: they are all the same.
    """
    if len(captions.group_N) > 1 and captions.num_distinct == 1:
        raise ValueError(
            f"all {len(captions.group_N):,} pairs have the caption {captions.first[:60]!r}, so that nothing tells them "
            "apart: check where the captions are read from"
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
    """What was found.

    Attributes:
        shared: the captions that most pictures share, with how many.
        share_cut: the share of captions that the real sizes' tokenizer would cut.
        class_sizes: pictures of each class, by its first name; None where the data name no classes.
        reading: what was left out when the data were opened.
        problem: why training would refuse the data; empty if it would not.
    """

    num_pairs: int
    captions: Captions
    shared: list[tuple[str, int]]
    share_cut: float
    pictures: Pictures
    class_sizes: dict[str, int] | None
    reading: Reading
    problem: str

    def to_document(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        tally = self.pictures.tally
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
                "width_px": spread_of([width for width, _ in self.pictures.sizes]),
                "height_px": spread_of([height for _, height in self.pictures.sizes]),
                "num_duplicates": self.pictures.num_copies,
                "duplicates": self.pictures.copies[:NUM_EXAMPLES],
                "num_unusable": tally.num_unusable,
                "unusable": dict(tally.reasons.most_common()),
                "unusable_examples": tally.examples,
            },
            "classes": self.class_sizes,
            "problem": self.problem,
        }


def check(dataset: Dataset, num_pictures: int, tokenize: Callable[[Sequence[str]], "Tensor"]) -> Report:
    """Reads all captions, and looks at some pictures.

    Args:
        num_pictures: how many, drawn at random but always the same; 0 for all.
        tokenize: gives rows one token longer than those of the real sizes, so that one that is filled would be cut.
    """
    captions = captions_of(dataset)
    chosen = _chosen(len(dataset), num_pictures)
    pictures = look_at(dataset, chosen)
    return Report(
        num_pairs=len(dataset),
        captions=captions,
        shared=most_shared(dataset, captions, NUM_EXAMPLES),
        share_cut=share_filling(dataset, tokenize),
        pictures=pictures,
        class_sizes=_class_sizes(dataset),
        reading=dataset.reading,
        problem=_problem(captions, pictures, are_all=len(chosen) == len(dataset)),
    )


def spread_of(values: Sequence[int]) -> dict[str, float] | None:
    """Smallest, median and largest; None of nothing."""
    return {"min": min(values), "median": median(values), "max": max(values)} if values else None


def _chosen(total: int, count: int) -> Sequence[int]:
    if not 0 < count < total:
        return range(total)
    return sorted(random.Random(0).sample(range(total), count))


def _class_sizes(dataset: Dataset) -> dict[str, int] | None:
    """Pictures by class, the largest first; classes without a picture too, where the data name them."""
    sizes = Counter({names[0]: 0 for names in dataset.classes or ()})
    labels = (dataset.text(index).label for index in range(len(dataset)))
    sizes.update(label for label in labels if label is not None)
    return dict(sizes.most_common()) or None


def _problem(captions: Captions, pictures: Pictures, *, are_all: bool) -> str:
    """Why training would refuse the data, sooner or later.

    Training counts the unusable pictures that it meets, epoch after epoch: where all have been looked at, a share that
    is too large is certain to end it, however few pictures they are.
    """
    try:
        check_captions(captions)
        pictures.check()
        if are_all:
            pictures.tally.check(few=0)
    except ValueError as error:
        return str(error)
    return ""
