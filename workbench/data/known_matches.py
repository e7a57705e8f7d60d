"""Which captions of the training pairs are known to be true of which images: the pairs that are no negatives.

Shape letters: N training pairs, M captions of all pairs, B pairs of a batch, P matches.
"""

from array import array
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from workbench.data.dataset import Dataset, SampleText

Integers = npt.NDArray[np.int64]
Choose = Callable[[SampleText, int], int]  # the caption that a sample has in a view


class KnownMatches:
    """Matches of images and captions among the training pairs.

    A caption is true of an image if a pair of the image's group has it; pairs without a group are one each. So a
    caption that several pairs share is true of all their images, and all captions of a group are true of its images.

    Args:
        choose: the caption of a sample in a view, for samples that have several.
    """

    def __init__(self, dataset: Dataset, choose: Choose) -> None:
        self._dataset, self._choose = dataset, choose
        groups, captions, starts = array("q"), array("q"), array("q")
        for index in range(len(dataset)):
            text = dataset.text(index)
            starts.append(len(captions))
            # Texts are compared by 64-bit hashes: 10 million captions take 80 MB instead of gigabytes.
            groups.append(hash(text.group))
            captions.extend(map(hash, text.captions))
        self._starts_N = np.array(starts)
        self._group_N, self._caption_M = (np.unique(column, return_inverse=True)[1] for column in (groups, captions))
        num_captions_N = np.diff(self._starts_N, append=len(captions))
        self._has_choice = bool((num_captions_N > 1).any())
        # Each (group, caption) once, as one number.
        true = np.unique(np.repeat(self._group_N, num_captions_N) * len(captions) + self._caption_M)
        group_P, caption_P = np.divmod(true, len(captions))
        self._captions_of_group = _Lookup(group_P, caption_P)
        self._groups_of_caption = _Lookup(caption_P, group_P)
        self._pairs_of_group = _Lookup(self._group_N, np.arange(len(self._group_N)))

    def captions(self, views_N: Iterable[int]) -> "CaptionsInViews":
        """The caption of every pair, in a view of its own each."""
        chosen_N = self._starts_N
        if self._has_choice:
            chosen = [self._choose(self._dataset.text(index), view) for index, view in enumerate(views_N)]
            chosen_N = chosen_N + np.array(chosen, np.int64)
        return CaptionsInViews(self, self._caption_M[chosen_N])

    def texts_of(self, pairs_B: Integers, captions: "CaptionsInViews") -> tuple[Integers, Integers]:
        """Rows k and pairs n, [P] each, such that the caption of n is true of the image of pair ``pairs_B[k]``."""
        row, caption = self._captions_of_group(self._group_N[pairs_B])
        match, pair = captions.pairs_of_caption(caption)
        return row[match], pair

    def images_of(self, pairs_B: Integers, captions: "CaptionsInViews") -> tuple[Integers, Integers]:
        """Rows k and pairs n, [P] each, such that the caption of pair ``pairs_B[k]`` is true of the image of n."""
        row, group = self._groups_of_caption(captions.caption_N[pairs_B])
        match, pair = self._pairs_of_group(group)
        return row[match], pair


class CaptionsInViews:
    """The number of every pair's caption in its current view, [N], and the pairs of each caption."""

    def __init__(self, known: KnownMatches, caption_N: Integers) -> None:
        self.known, self.caption_N = known, caption_N
        self.pairs_of_caption = _Lookup(caption_N, np.arange(len(caption_N)))


class _Lookup:
    """A relation of two columns: all values of some keys."""

    def __init__(self, key_P: Integers, value_P: Integers) -> None:
        order = np.argsort(key_P, kind="stable")
        self._key_P, self._value_P = key_P[order], value_P[order]

    def __call__(self, keys: Integers) -> tuple[Integers, Integers]:
        """Positions in ``keys`` and values, of all entries with such a key; ordered by position."""
        start = np.searchsorted(self._key_P, keys, "left")
        count = np.searchsorted(self._key_P, keys, "right") - start
        position = np.repeat(np.arange(len(keys)), count)
        within = np.arange(len(position)) - np.repeat(np.cumsum(count) - count, count)
        return position, self._value_P[np.repeat(start, count) + within]
