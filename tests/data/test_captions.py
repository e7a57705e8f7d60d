"""Counts of captions, against brute force."""

import json
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.captions import captions_of, most_shared, share_filling
from workbench.data.dataset import Dataset, Sample, SampleText
from workbench.data.sources.tar import ShardDataset


class Texts(Dataset):
    """Captions without images; a group where one is given."""

    def __init__(self, *captions: tuple[str, ...], groups: list[str] | None = None) -> None:
        self.fingerprint = ""
        self._captions = captions
        self._groups = groups or [str(index) for index in range(len(captions))]

    def __len__(self) -> int:
        return len(self._captions)

    def __getitem__(self, index: int) -> Sample:
        raise NotImplementedError

    def text(self, index: int) -> SampleText:
        return SampleText(str(index), self._captions[index], self._groups[index], None)


def test_counts() -> None:
    dataset = Texts(("a dog", "a b c"), ("a dog",), ("a tree \ufffd",), ("a dog",), ("one",))
    captions = captions_of(dataset)
    assert captions.num_distinct == 4
    assert captions.num_words_M.tolist() == [2, 3, 2, 3, 2, 1]
    assert captions.num_sharing_M.tolist() == [3, 1, 3, 1, 3, 1]
    assert captions.num_pairs_sharing == 3
    assert captions.num_undecoded == 1
    assert captions.first == "a dog"
    assert most_shared(dataset, captions) == [("a dog", 3)]


CAPTIONS = st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map(tuple), min_size=2, max_size=12)


@given(captions=CAPTIONS)
def test_false_negatives_by_brute_force(captions: list[tuple[str, ...]]) -> None:
    """Over all ordered pairs of images, and every caption that may be drawn of each."""
    pairs = list(permutations(captions, 2))
    expected = sum(sum(a == b for a in one for b in other) / len(one) / len(other) for one, other in pairs) / len(pairs)
    assert captions_of(Texts(*captions)).false_negative_share == pytest.approx(expected, abs=1e-12)


@given(captions=CAPTIONS, data=st.data())
def test_the_ceiling_by_brute_force(captions: list[tuple[str, ...]], data: st.DataObject) -> None:
    """A caption's images are those that have it; which of them comes first is chance."""
    groups = data.draw(st.lists(st.sampled_from("xyz"), min_size=len(captions), max_size=len(captions)))
    chances = []
    for owner, own in enumerate(captions):
        for caption in own:
            alike = [index for index, other in enumerate(captions) if caption in other]
            chances.append(sum(groups[index] == groups[owner] for index in alike) / len(alike))
    found = captions_of(Texts(*captions, groups=groups)).ceiling
    assert found == pytest.approx(sum(chances) / len(chances))


def test_the_ceiling_is_that_of_blocks_of_a_thousand() -> None:
    """A caption that comes again only in the next thousand is no false negative where evaluation looks."""
    apart = Texts(*((str(index % 1000),) for index in range(2000)))
    assert captions_of(apart).ceiling == 1
    assert captions_of(apart).num_pairs_sharing == 2000
    beside = Texts(*((str(index // 2),) for index in range(2000)))
    assert captions_of(beside).ceiling == 0.5


def test_images_of_one_group_are_no_false_negatives() -> None:
    assert captions_of(Texts(("a",), ("a",), groups=["g", "g"])).ceiling == 1
    assert captions_of(Texts(("a",), ("a",))).ceiling == 0.5


def test_one_pair_alone() -> None:
    captions = captions_of(Texts(("a",)))
    assert (captions.false_negative_share, captions.ceiling, captions.num_pairs_sharing) == (0, 1, 0)


def test_rows_that_are_filled() -> None:
    dataset = Texts(*(("word " * number,) for number in range(1, 11)))

    def tokenize(captions: list[str]) -> torch.Tensor:
        return torch.tensor(
            [[1] * min(8, caption.count("word")) + [0] * (8 - caption.count("word")) for caption in captions]
        )

    assert share_filling(dataset, tokenize) == 0.3


def test_of_shards(write_tar: Callable[..., Path], pairs: Callable[..., dict[str, bytes]]) -> None:
    record = json.dumps({"captions": ["caption 0", "caption 2"]}).encode()
    captions = captions_of(ShardDataset([write_tar(pairs(3) | {"k001.json": record})]))
    assert captions.owner_M.tolist() == [0, 1, 1, 2]
    assert captions.num_pairs_sharing == 3
