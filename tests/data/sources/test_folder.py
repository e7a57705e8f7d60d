"""A class per sub-folder: names, captions, and folders that are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.data.evaluation_set import open_evaluation_set
from workbench.data.spec import open_dataset

WriteImages = Callable[..., list[str]]


@pytest.fixture
def folder(write_images: WriteImages, tmp_path: Path) -> Path:
    """Three images of a grey_cat, one of a tree, and two of a dog, one of them a folder deeper."""
    for name, count, start in (("grey_cat", 3, 0), ("tree", 1, 3), ("dog", 1, 4), ("dog/more", 1, 5)):
        write_images(count, f"animals/{name}", start)
    (tmp_path / "animals" / "dog" / "notes.txt").write_text("no image")
    (tmp_path / "animals" / ".git").mkdir()
    return tmp_path / "animals"


def name_classes(folder: Path, names: object) -> None:
    (folder / "classes.json").write_text(names if isinstance(names, str) else json.dumps(names))


def test_classes_are_sub_folders_and_interleaved(folder: Path) -> None:
    dataset = open_dataset(f"folder:{folder}", "train")
    assert dataset.task.classes == (("dog",), ("grey cat",), ("tree",))
    texts = [dataset.text(index) for index in range(len(dataset))]
    assert [text.key for text in texts] == [
        "dog/k004.jpg",
        "grey_cat/k000.jpg",
        "tree/k003.jpg",
        "dog/more/k005.jpg",
        "grey_cat/k001.jpg",
        "grey_cat/k002.jpg",
    ]
    assert [text.label for text in texts] == [text.group for text in texts]
    assert [text.label for text in texts[:3]] == ["dog", "grey cat", "tree"]
    assert texts[1].captions == ("a photo of a grey cat.",)
    assert dataset[5].image.size == (40, 32)
    assert len({open_dataset(f"folder:{folder}", "train", 3).text(index).label for index in range(3)}) == 3


def test_names_come_from_a_file(folder: Path) -> None:
    name_classes(folder, {"dog": ["dog", "hound"], "grey_cat": "cat", "tree": ["tree {x}"], "fish": "fish"})
    dataset = open_dataset(f"folder:{folder}", "train")
    assert dataset.task.classes == (("dog", "hound"), ("cat",), ("tree {x}",))
    assert dataset.text(0).captions == ("a photo of a dog.", "a photo of a hound.")
    assert dataset.text(2).captions == ("a photo of a tree {x}.",)
    assert dataset.text(0).label == "dog"


def test_a_class_missing_in_the_file_is_a_warning(folder: Path) -> None:
    name_classes(folder, {"dog": "dog", "gray_cat": "cat"})
    with pytest.warns(UserWarning, match=r"classes\.json names none of 2 sub-folders, first 'grey_cat'"):
        assert open_dataset(f"folder:{folder}", "train").task.classes == (("dog",), ("grey cat",), ("tree",))


def test_evaluation_knows_classes_and_prompts(folder: Path) -> None:
    (folder / "unicorn").mkdir()
    evaluation = open_evaluation_set(f"folder:{folder}", "validation")
    assert evaluation.task is not None
    assert evaluation.task.classes == (("dog",), ("grey cat",), ("tree",), ("unicorn",))
    assert evaluation.task.templates == ("a photo of a {}.",)
    assert evaluation.classes_N == ["dog", "grey cat", "tree", "dog", "grey cat", "grey cat"]
    assert evaluation.image_group_N == evaluation.classes_N
    shards = Path(__file__).parents[3] / "data_samples" / "emoji" / "test"
    assert open_evaluation_set(str(shards), "validation").task is None


def test_folders_become_words_with_the_right_article(write_images: WriteImages, tmp_path: Path) -> None:
    for number, name in enumerate(["airplanes", "Motorbikes", "003.Baltimore_Oriole", "IbisBird"]):
        write_images(1, f"birds/{name}", number)
    dataset = open_dataset(f"folder:{tmp_path / 'birds'}", "train")
    assert {dataset.text(index).captions[0] for index in range(4)} == {
        "a photo of airplanes.",
        "a photo of motorbikes.",
        "a photo of a baltimore oriole.",
        "a photo of an ibis bird.",
    }


@pytest.mark.parametrize(("first", "second"), [("0", "1"), ("n02084071", "n02121808"), ("class_00", "class_01")])
def test_numbers_and_ids_as_class_names_are_a_warning(
    write_images: WriteImages, tmp_path: Path, first: str, second: str
) -> None:
    write_images(1, f"ids/{first}")
    write_images(1, f"ids/{second}", 1)
    with pytest.warns(UserWarning, match=rf"^2 of 2 classes of .* first '{first}', .* name them in .*classes\.json"):
        dataset = open_dataset(f"folder:{tmp_path / 'ids'}", "train")
    assert len(dataset.reading.notes) == 1
    name_classes(tmp_path / "ids", {first: first, second: ["hound", "dog"]})
    assert open_dataset(f"folder:{tmp_path / 'ids'}", "train").reading.notes == ()


def test_one_number_among_words_is_a_warning_until_it_is_named(write_images: WriteImages, tmp_path: Path) -> None:
    for number, name in enumerate(["747", "biplane", "glider"]):
        write_images(1, f"planes/{name}", number)
    with pytest.warns(UserWarning, match=r"^1 of 3 classes of .* first '747', .* name them in .*classes\.json"):
        open_dataset(f"folder:{tmp_path / 'planes'}", "train")
    name_classes(tmp_path / "planes", {"747": "747", "biplane": "biplane", "glider": "glider"})
    assert open_dataset(f"folder:{tmp_path / 'planes'}", "train").reading.notes == ()


def test_templates_come_from_a_file_and_captions_stay(folder: Path) -> None:
    plain = open_dataset(f"folder:{folder}", "train")
    (folder / "templates.json").write_text('["a drawing of a {}.", "the {}", "the {}"]')
    evaluation = open_evaluation_set(f"folder:{folder}", "validation", prepare="pixels")
    assert evaluation.task is not None
    assert evaluation.task.templates == ("a drawing of a {}.", "the {}")
    assert evaluation.captions[0] == "a photo of a dog."
    assert evaluation.fingerprint == plain.fingerprint


@pytest.mark.parametrize("content", ["", "{}", "[]", '"a {}"', '["a photo"]', '["{} and {}"]', "[3]", "[" * 100_000])
def test_templates_without_a_placeholder_are_one_line(folder: Path, content: str) -> None:
    (folder / "templates.json").write_text(content)
    with pytest.raises(ValueError, match=r"^'[^\n]*templates\.json' must be a list of prompts, [^\n]*$"):
        open_dataset(f"folder:{folder}", "train")


def test_images_outside_the_sub_folders_are_a_warning(folder: Path, image: Callable[..., bytes]) -> None:
    (folder / "loose.jpg").write_bytes(image(0))
    with pytest.warns(UserWarning, match=r"left out 1 images of '.*animals' that are in no sub-folder"):
        assert len(open_dataset(f"folder:{folder}", "train")) == 6


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"dog": "cat", "grey_cat": "cat"}, "the sub-folders 'dog' and 'grey_cat' of '.*' are both called 'cat': give"),
        ({"dog": ["a", "b"], "tree": ["b"]}, "'dog' and 'tree' of '.*' are both called 'b'"),
        ({"dog": "tree"}, "'dog' and 'tree' of '.*' are both called 'tree'"),
        ({"dog": ""}, "must map sub-folders to a name"),
        ({"dog": []}, "must map sub-folders to a name"),
        ({"dog": [1]}, "must map sub-folders to a name"),
        ({"dog": None}, "must map sub-folders to a name"),
        (["dog"], "must map sub-folders to a name"),
        ("{", "must map sub-folders to a name"),
        ("\0", "must map sub-folders to a name"),
    ],
)
@pytest.mark.filterwarnings("ignore:classes.json names none")
def test_ambiguous_class_names_are_one_line(folder: Path, names: object, message: str) -> None:
    name_classes(folder, names)
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
        open_dataset(f"folder:{folder}", "train")


def test_fewer_than_two_classes_are_refused(write_images: WriteImages, tmp_path: Path) -> None:
    write_images(3, "flat")
    (tmp_path / "empty").mkdir()
    write_images(3, "single/only")
    (tmp_path / "single" / "nothing").mkdir()
    for name, number in (("flat", 0), ("empty", 0), ("single", 1)):
        with pytest.raises(ValueError, match=rf"^'.*{name}' has images in {number} of its sub-folders, [^\n]+$"):
            open_dataset(f"folder:{tmp_path / name}", "train")
    with pytest.raises(ValueError, match=r"did you mean '.*single'"):
        open_dataset(f"folder:{tmp_path / 'singel'}", "train")
    with pytest.raises(ValueError, match="is not a folder"):
        open_dataset(f"folder:{tmp_path / 'flat' / 'k000.jpg'}", "train")
