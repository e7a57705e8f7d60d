import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.samples.scenes.attributes import (
    COLORS,
    SHAPES,
    SPLITS,
    TEXTURES,
    TONES_RGB,
    bits,
    combinations,
    image_seeds,
    split_of,
    uniforms,
)

VALUES = (COLORS, TEXTURES, SHAPES)


def test_every_combination_belongs_to_exactly_one_split():
    dealt = Counter(
        tuple(triple) for split in ("train", "validation", "test") for triple in combinations(split).tolist()
    )
    assert dealt == Counter(itertools.product(range(8), range(3), range(6)))


def test_about_70_15_15_percent():
    sizes = {split: len(combinations(split)) for split in SPLITS}
    assert sizes == {"train": 101, "teacher": 101, "validation": 20, "test": 23}


def test_the_teacher_sees_the_combinations_of_train():
    assert (combinations("teacher") == combinations("train")).all()


def test_every_pair_of_values_is_in_training():
    trained = [triple for triple in itertools.product(*VALUES) if split_of(*triple) == "train"]
    for first, second in itertools.combinations(range(3), 2):
        seen = {(triple[first], triple[second]) for triple in trained}
        assert seen == set(itertools.product(VALUES[first], VALUES[second]))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_every_value_is_held_out_in_some_combination(split):
    for column, values in enumerate(VALUES):
        assert set(combinations(split)[:, column].tolist()) == set(range(len(values)))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_no_attribute_follows_from_the_others_within_a_held_out_split(split):
    """Else retrieval could be solved without looking at it."""
    triples = combinations(split).tolist()
    for column in range(3):
        others = Counter(tuple(value for place, value in enumerate(triple) if place != column) for triple in triples)
        assert max(others.values()) > 1


def test_an_unknown_split_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'validation'"):
        combinations("validate")


def test_tones_of_colors_are_distinct():
    assert tuple(TONES_RGB) == COLORS
    for first, second in itertools.combinations(COLORS, 2):
        distance = sum((a - b) ** 2 for a, b in zip(TONES_RGB[first][0], TONES_RGB[second][0], strict=True)) ** 0.5
        assert distance > 80


WORD = 2**64


def splitmix64(seed: int, num: int) -> list[int]:
    """The published algorithm, number after number in Python's integers."""
    words = []
    for _ in range(num):
        seed = (seed + 0x9E3779B97F4A7C15) % WORD
        word = (seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9 % WORD
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % WORD
        words.append(word ^ (word >> 31))
    return words


@given(st.lists(st.integers(0, WORD - 1), min_size=1, max_size=4))
def test_bits_are_those_of_splitmix64(seeds):
    drawn = bits(np.array(seeds, dtype=np.uint64), 5)
    assert drawn.tolist() == [splitmix64(seed, 5) for seed in seeds]


def test_uniforms_fill_the_unit_interval_evenly():
    drawn = uniforms(image_seeds("train", 0, 500), 200)
    counts, _ = np.histogram(drawn, bins=10, range=(0, 1))
    assert abs(counts / drawn.size - 0.1).max() < 0.005
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.15


def test_every_image_of_every_split_has_its_own_seed():
    seeds = np.concatenate([image_seeds(split, 0, 300) for split in ("train", "teacher", "validation", "test")])
    assert len(np.unique(seeds)) == 1_200
