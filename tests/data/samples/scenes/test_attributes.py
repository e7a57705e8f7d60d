import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.dataset import SampleText
from workbench.data.samples.scenes import draw, zero_shot
from workbench.data.samples.scenes.attributes import (
    COLORS,
    OPPOSITE,
    PHRASINGS,
    SHAPES,
    SIZES,
    SPLITS,
    TEXTURES,
    TONES_RGB,
    WORDS,
    SceneObject,
    bits,
    combinations,
    full,
    image_seeds,
    meaning,
    shapes_only,
    split_of,
    uniforms,
    without_size_and_texture,
)
from workbench.prompts import fill

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


# Few values, so that equal meanings come up.
THINGS = st.builds(
    SceneObject, st.sampled_from(SIZES[:2]), st.just("red"), st.just("plain"), st.sampled_from(SHAPES[:2])
)
SCENES = st.tuples(THINGS, st.sampled_from(tuple(OPPOSITE)), THINGS)
STAR, RING = SceneObject("large", "red", "plain", "star"), SceneObject("small", "blue", "dotted", "ring")


@given(SCENES, SCENES)
def test_groups_are_equal_exactly_if_meanings_are(scene, other):
    def truths(first, relation, second):
        return {(first, relation, second), (second, OPPOSITE[relation], first)}

    assert (meaning(*scene) == meaning(*other)) == (truths(*scene) == truths(*other))


@given(SCENES)
def test_scenes_of_one_group_can_be_given_the_same_captions(scene):
    first, relation, second = scene
    for phrasing in range(len(PHRASINGS)):
        one = {full(*scene, phrasing, mirrored) for mirrored in (False, True)}
        other = {full(second, OPPOSITE[relation], first, phrasing, mirrored) for mirrored in (False, True)}
        assert one == other


def test_the_phrasings_written_out():
    assert [full(STAR, "left of", RING, phrasing, False) for phrasing in range(4)] == [
        "a large red plain star to the left of a small blue dotted ring",
        "a large red plain star left of a small blue dotted ring",
        "a large red plain star and on its right a small blue dotted ring",
        "a large red plain star on the left and a small blue dotted ring on the right",
    ]


def test_the_same_scene_from_the_other_side():
    assert [full(STAR, "above", RING, phrasing, True) for phrasing in range(4)] == [
        "a small blue dotted ring below a large red plain star",
        "a small blue dotted ring under a large red plain star",
        "a small blue dotted ring and above it a large red plain star",
        "a small blue dotted ring at the bottom and a large red plain star at the top",
    ]


def test_shorter_captions_written_out():
    orange = SceneObject("small", "orange", "plain", "star")
    assert without_size_and_texture(STAR, "left of", RING, False) == "a red star to the left of a blue ring"
    assert without_size_and_texture(STAR, "left of", orange, True) == "an orange star to the right of a red star"
    assert shapes_only("circle", "star") == "circle and a star"
    assert shapes_only("star", "star") == "star and another star"


def test_the_words_are_exactly_those_of_all_captions():
    used = set()
    for index in range(max(len(SIZES), len(COLORS), len(TEXTURES), len(SHAPES))):
        thing = SceneObject(*(values[index % len(values)] for values in (SIZES, COLORS, TEXTURES, SHAPES)))
        for relation, phrasing in itertools.product(OPPOSITE, range(len(PHRASINGS))):
            used |= set(full(thing, relation, thing, phrasing, False).split())
        used |= set(without_size_and_texture(thing, "above", thing, False).split())
    used |= set(shapes_only("star", "star").split())
    assert tuple(sorted(used)) == WORDS


@pytest.mark.parametrize("relation", OPPOSITE)
def test_no_caption_has_more_than_18_words(relation):
    lengths = [len(full(STAR, relation, RING, phrasing, False).split()) for phrasing in range(len(PHRASINGS))]
    assert max(lengths) <= 18


def test_captions_are_lower_case_words_and_nothing_else():
    assert all(word.isascii() and word.isalpha() and word.islower() for word in WORDS)


def prompts():
    task = zero_shot()
    return [fill(template, name) for template in task.templates for names in task.classes for name in names]


def test_a_class_for_every_color_and_shape():
    expected = {f"{color} {shape}" for color, shape in itertools.product(COLORS, SHAPES)}
    assert [len(names) for names in zero_shot().classes] == [1] * 48
    assert {name for (name,) in zero_shot().classes} == expected


def test_prompts_are_captions_of_scenes():
    """Word for word those without size and texture, for which "small" and "plain" stand in here."""
    things = [SceneObject("small", color, "plain", shape) for color, shape in itertools.product(COLORS, SHAPES)]
    captions = {
        without_size_and_texture(one, relation, two, False)
        for one, relation, two in itertools.product(things, OPPOSITE, things)
    }
    assert set(prompts()) <= captions


def test_templates_name_every_relation_color_and_shape():
    words = Counter(word for template in zero_shot().templates for word in template.split())
    assert {words[color] for color in COLORS} == {1}
    assert {words[relation] for relation in ("left", "right", "above", "below")} == {2}
    assert {words[shape] for shape in SHAPES} == {1, 2}


@given(THINGS, st.sampled_from(tuple(OPPOSITE)), THINGS)
def test_both_objects_of_a_scene_are_correct(first, relation, second):
    text = SampleText("key", ("caption",), meaning(first, relation, second), None)
    answers = zero_shot().answers(text)
    assert set(answers) == {f"{thing.colour} {thing.shape}" for thing in (first, second)}
    assert len(answers) == len(set(answers))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_drawn_objects_are_the_correct_classes(split):
    for sample in draw(split, 0, 100):
        text = SampleText(sample.key, tuple(sample.record["captions"]), sample.record["group"], sample.record["class"])
        drawn = {f"{thing['colour']} {thing['shape']}" for thing in sample.record["objects"]}
        assert set(zero_shot().answers(text)) == drawn


def test_the_label_is_the_pair_of_shapes_in_a_fixed_order():
    for sample in draw("validation", 0, 100):
        first, second = sorted((thing["shape"] for thing in sample.record["objects"]), key=SHAPES.index)
        assert sample.record["class"] == shapes_only(first, second)
