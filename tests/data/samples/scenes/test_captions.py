import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.samples.scenes import draw, zero_shot, zero_shot_class
from workbench.data.samples.scenes.attributes import COLORS, SHAPES, SIZES, TEXTURES
from workbench.data.samples.scenes.captions import (
    OPPOSITE,
    PHRASINGS,
    WORDS,
    SceneObject,
    full,
    meaning,
    shapes_only,
    without_size_and_texture,
)

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


def test_a_class_for_every_unordered_pair_of_shapes():
    task = zero_shot()
    assert len(task.classes) == 6 * 7 // 2
    assert ("circle and a square", "square and a circle") in task.classes
    assert ("circle and another circle",) in task.classes
    names = list(itertools.chain.from_iterable(task.classes))
    assert len(names) == len(set(names)) == 6 * 6


def test_prompts_use_known_words_only():
    task = zero_shot()
    for template, names in itertools.product(task.templates, task.classes):
        for name in names:
            assert set(template.format(name).split()) <= set(WORDS)


def test_the_first_template_is_the_shortest_training_caption():
    task = zero_shot()
    for sample in draw("train", 0, 200):
        names = task.classes[zero_shot_class(sample.record)]
        assert sample.record["captions"][4] in [task.templates[0].format(name) for name in names]


def test_an_image_is_of_the_class_of_its_shapes():
    task = zero_shot()
    for sample in draw("validation", 0, 200):
        first, second = (thing["shape"] for thing in sample.record["objects"])
        names = task.classes[zero_shot_class(sample.record)]
        assert sample.record["class"] == names[0]
        assert all(first in name and second in name for name in names)
        assert {word for word in names[0].split() if word in SHAPES} == {first, second}
