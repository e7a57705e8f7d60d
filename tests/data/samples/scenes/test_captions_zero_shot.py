import itertools

from workbench.data.samples.scenes import WORDS, draw, zero_shot, zero_shot_class
from workbench.data.samples.scenes.attributes import SHAPES


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
