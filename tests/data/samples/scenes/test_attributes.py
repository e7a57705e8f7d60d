import itertools
from collections import Counter

import pytest

from workbench.data.samples.scenes.attributes import (
    COLOURS,
    SHAPES,
    SPLITS,
    TEXTURES,
    TONES_RGB,
    combinations,
    split_of,
)

VALUES = (COLOURS, TEXTURES, SHAPES)


def test_every_combination_belongs_to_exactly_one_split():
    dealt = Counter(
        tuple(triple) for split in ("train", "validation", "test") for triple in combinations(split).tolist()
    )
    assert dealt == Counter(itertools.product(range(8), range(3), range(6)))


def test_about_70_15_15_in_a_hundred():
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


def test_every_colour_has_its_tones_and_they_are_far_apart():
    assert tuple(TONES_RGB) == COLOURS
    for first, second in itertools.combinations(COLOURS, 2):
        distance = sum((a - b) ** 2 for a, b in zip(TONES_RGB[first][0], TONES_RGB[second][0], strict=True)) ** 0.5
        assert distance > 80
