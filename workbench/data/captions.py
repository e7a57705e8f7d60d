"""What can be said of the captions of a data set without looking at a picture.

Shape letters: N pictures · M captions.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from workbench.data.bar import with_bar
from workbench.data.picture_files import spread
from workbench.data.sample import Dataset
from workbench.data.texts import has_line_break

if TYPE_CHECKING:
    from torch import Tensor

Numbers = npt.NDArray[np.int64]
MANY_TEXTS = 200_000
BLOCK = 1000  # pictures among which evaluation looks for one
NUM_TOKENIZED = 1000
UNDECODED = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Captions:
    """The captions of a data set as numbers: 32 bytes a caption.

    Attributes:
        text_M: a number for each caption's letters, equal for equal captions.
        owner_M: the picture of each caption.
        group_N: a number for each picture's group.
        num_words_M: words of each caption.
        num_undecoded: captions with letters that were not UTF-8.
        num_with_line_breaks: captions of more than one line.
        first: the first caption of all.
    """

    text_M: Numbers
    owner_M: Numbers
    group_N: Numbers
    num_words_M: Numbers
    num_undecoded: int
    num_with_line_breaks: int
    first: str

    @property
    def num_distinct(self) -> int:
        return len(np.unique(self.text_M))

    @cached_property
    def num_sharing_M(self) -> Numbers:
        """How many pictures have this caption."""
        _, first_of_pair = np.unique(_mixed(self.text_M, self.owner_M), return_index=True)
        texts, counts = np.unique(self.text_M[first_of_pair], return_counts=True)
        return np.asarray(counts[np.searchsorted(texts, self.text_M)], np.int64)

    @property
    def num_pairs_sharing(self) -> int:
        """Pictures with a caption that is another's too."""
        return len(np.unique(self.owner_M[self.num_sharing_M > 1]))

    @property
    def false_negative_share(self) -> float:
        """The chance that two pictures come with the same caption, so that a loss takes what is true for false."""
        num_pictures = len(self.group_N)
        if num_pictures < 2:
            return 0.0
        weight_M = 1 / np.bincount(self.owner_M)[self.owner_M]
        of_text = np.bincount(_numbered(self.text_M), weights=weight_M)
        of_pair = np.bincount(_numbered(_mixed(self.text_M, self.owner_M)), weights=weight_M)
        return float((np.square(of_text).sum() - np.square(of_pair).sum()) / (num_pictures * (num_pictures - 1)))

    @property
    def ceiling(self) -> float:
        """What a perfect model reaches in text-to-image R@1 among 1,000 pictures.

        It cannot tell apart the pictures of one caption, and those of another group count as wrong.
        """
        block_M, group_M = self.owner_M // BLOCK, self.group_N[self.owner_M]
        _, once = np.unique(_mixed(self.text_M, self.owner_M), return_index=True)
        true_M = _counts(_mixed(self.text_M, block_M), once)
        right_M = _counts(_mixed(self.text_M, block_M, group_M), once)
        return float((right_M / true_M).mean())


def captions_of(dataset: Dataset) -> Captions:
    """Reads all captions once; a second for 200,000."""
    text_M, owner_M, group_N, num_words_M = (array("q") for _ in range(4))
    num_undecoded = num_with_line_breaks = 0
    for index in with_bar(range(len(dataset)), "reading captions", MANY_TEXTS):
        text = dataset.text(index)
        group_N.append(hash(text.group))
        for caption in text.captions:
            text_M.append(hash(caption))
            owner_M.append(index)
            num_words_M.append(len(caption.split()))
            num_undecoded += UNDECODED in caption
            num_with_line_breaks += has_line_break(caption)
    return Captions(
        np.array(text_M),
        np.array(owner_M),
        np.array(group_N),
        np.array(num_words_M),
        num_undecoded=num_undecoded,
        num_with_line_breaks=num_with_line_breaks,
        first=dataset.text(0).captions[0],
    )


def most_shared(dataset: Dataset, captions: Captions, count: int = 3) -> list[tuple[str, int]]:
    """The captions that most pictures share, with how many; only those of at least two."""
    _, first = np.unique(captions.text_M, return_index=True)
    first.sort()
    common = first[np.argsort(-captions.num_sharing_M[first], kind="stable")][:count]
    found = []
    for place in common[captions.num_sharing_M[common] > 1]:
        owner = int(captions.owner_M[place])
        inner = int(place - np.searchsorted(captions.owner_M, owner))
        found.append((dataset.text(owner).captions[inner], int(captions.num_sharing_M[place])))
    return found


def share_filling(dataset: Dataset, tokenize: Callable[[Sequence[str]], "Tensor"]) -> float:
    """The share of captions whose tokens fill a row to its end, of the first captions of 1,000 pictures."""
    texts = [dataset.text(index).captions[0] for index in spread(len(dataset), NUM_TOKENIZED)]
    return float((tokenize(texts)[:, -1] != 0).double().mean())


def _mixed(*columns: Numbers) -> Numbers:
    """One number for each row: equal for equal rows, and with 64 bits hardly ever otherwise."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed.astype(np.int64)


def _numbered(values: Numbers) -> Numbers:
    return np.unique(values, return_inverse=True)[1].reshape(-1)


def _counts(key_M: Numbers, counted: Numbers) -> Numbers:
    """For every row, how many of the counted rows have its key."""
    keys, counts = np.unique(key_M[counted], return_counts=True)
    return np.asarray(counts[np.searchsorted(keys, key_M)], np.int64)
