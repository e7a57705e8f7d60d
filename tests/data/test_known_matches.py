"""Known matches against a loop over all pairs."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.dataset import SampleText
from workbench.data.known_matches import KnownMatches

SAMPLES = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3)), min_size=1, max_size=9
)


@dataclass
class Texts:
    """A dataset's texts: groups, and captions of each pair."""

    samples: list[tuple[int, list[str]]]

    def __len__(self) -> int:
        return len(self.samples)

    def text(self, index: int) -> SampleText:
        group, captions = self.samples[index]
        return SampleText(str(index), tuple(captions), str(group), None)


def choose(text: SampleText, view: int) -> int:
    return (int(text.key) + view) % len(text.captions)


@given(samples=SAMPLES, view=st.integers(0, 2), data=st.data())
def test_a_caption_is_true_of_the_images_whose_group_has_it(samples, view: int, data) -> None:
    batch = data.draw(st.lists(st.sampled_from(range(len(samples))), min_size=1, unique=True))
    texts = Texts(samples)
    known = KnownMatches(texts, choose)
    captions = known.captions([view] * len(samples))
    chosen = [texts.text(index).captions[choose(texts.text(index), view)] for index in range(len(samples))]
    true = {(group, caption) for group, captions in samples for caption in captions}
    groups = [group for group, _ in samples]
    found = set(zip(*known.texts_of(np.array(batch), captions), strict=True))
    assert found == {
        (row, pair)
        for row, own in enumerate(batch)
        for pair in range(len(samples))
        if (groups[own], chosen[pair]) in true
    }
    found = set(zip(*known.images_of(np.array(batch), captions), strict=True))
    assert found == {
        (row, pair)
        for row, own in enumerate(batch)
        for pair in range(len(samples))
        if (groups[pair], chosen[own]) in true
    }


@pytest.mark.parametrize("groups", [(0, 1, 2), (0, 0, 1)])
def test_pairs_without_duplicates_match_only_themselves(groups) -> None:
    known = KnownMatches(Texts([(group, [name]) for group, name in zip(groups, "abc", strict=True)]), choose)
    captions = known.captions([0, 0, 0])
    rows, pairs = known.texts_of(np.array([2, 0]), captions)
    expected = [(0, 2), (1, 0)] if groups[0] != groups[1] else [(0, 2), (1, 0), (1, 1)]
    assert sorted(zip(rows.tolist(), pairs.tolist(), strict=True)) == expected
