"""Class names as words, and the articles that they take."""

import pytest

from workbench.prompts import fill, is_id, words_of


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("grey_cat", "grey cat"),
        ("Motorbikes", "motorbikes"),
        ("BACKGROUND_Google", "background google"),
        ("AnnualCrop", "annual crop"),
        ("001.Black_footed_Albatross", "black footed albatross"),
        ("n02085620-Chihuahua", "chihuahua"),
        ("n02084071", "n02084071"),
        ("t-shirt", "t-shirt"),
        ("__", ""),
        ("42", "42"),
        ("001.", "001."),
    ],
)
def test_a_folder_as_a_dataset(folder: str, words: str) -> None:
    assert words_of(folder) == words


@pytest.mark.parametrize("folder", ["0", "17", "0001", "n02084071", "class_3", "label-07", "c5", "id 9"])
def test_numbers_and_ids(folder: str) -> None:
    assert is_id(folder)


@pytest.mark.parametrize("folder", ["dog", "001.dog", "boeing 747", "n02085620-Chihuahua", "route66", ""])
def test_names_that_are_no_ids(folder: str) -> None:
    assert not is_id(folder)


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("dog", "a photo of a dog."),
        ("ibex", "a photo of an ibex."),
        ("Airplane", "a photo of an Airplane."),
        ("umbrella", "a photo of an umbrella."),
        ("unicorn", "a photo of a unicorn."),
        ("european robin", "a photo of a european robin."),
        ("one-way sign", "a photo of a one-way sign."),
        ("hourglass", "a photo of an hourglass."),
        ("horse", "a photo of a horse."),
        ("airplanes", "a photo of airplanes."),
        ("garden scissors", "a photo of garden scissors."),
        ("bus", "a photo of a bus."),
        ("wine glass", "a photo of a wine glass."),
        ("iris", "a photo of an iris."),
        ("lens", "a photo of a lens."),
        ("gas", "a photo of a gas."),
        ("an apple", "a photo of an apple."),
        ("the moon", "a photo of the moon."),
        ("tree {x}", "a photo of a tree {x}."),
    ],
)
def test_the_article_follows_the_name(name: str, prompt: str) -> None:
    assert fill("a photo of a {}.", name) == prompt


def test_other_templates_keep_their_words() -> None:
    assert fill("An {} from afar", "dog") == "A dog from afar"
    assert fill("a close view of the {}.", "airplanes") == "a close view of the airplanes."
    assert fill("{}", "ibex") == "ibex"
    assert fill("pasta {}", "ibex") == "pasta ibex"
