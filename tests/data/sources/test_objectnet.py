"""ObjectNet: only the classes that are ImageNet's too, by the mappings that come with the images."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.data.evaluation_set import open_evaluation_set
from workbench.data.sources.imagenet import imagenet_templates
from workbench.data.sources.objectnet import LABELS, SHARED
from workbench.data.spec import open_dataset

FOLDERS = {"air_freshener": "Air freshener", "alarm_clock": "Alarm clock", "tv": "TV", "dvd_player": "DVD player"}
IMAGENETS = {"Alarm clock": "analog clock; digital clock", "TV": "television", "Banana": "banana"}


@pytest.fixture
def images(write_images: Callable[..., list[str]], tmp_path: Path) -> Path:
    """Two images of each of four classes, two of which are ImageNet's."""
    for number, name in enumerate(FOLDERS):
        write_images(2, f"objectnet-1.0/images/{name}", 2 * number)
    mappings = tmp_path / "objectnet-1.0" / "mappings"
    mappings.mkdir()
    (mappings / LABELS).write_text(json.dumps(FOLDERS | {"banana": "Banana"}))
    (mappings / SHARED).write_text(json.dumps(IMAGENETS))
    return tmp_path / "objectnet-1.0" / "images"


def test_only_classes_of_imagenet_are_read_with_objectnets_names(images: Path) -> None:
    with pytest.warns(UserWarning, match=r"'.*images' is ObjectNet: 2 of its 4 classes are ImageNet's"):
        pairs = open_evaluation_set(f"folder:{images}", "test")
    assert pairs.task is not None
    assert pairs.task.classes == (("alarm clock",), ("tv",))
    assert (pairs.task.templates, pairs.task.verbatim, pairs.task.num_unnamed) == (imagenet_templates(), True, 0)
    assert pairs.classes_N == ["alarm clock", "tv"] * 2


def test_names_in_the_folder_win(images: Path) -> None:
    (images / "classes.json").write_text(json.dumps({name: name.upper() for name in FOLDERS}))
    task = open_dataset(f"folder:{images}", "test").task
    assert task is not None
    assert len(task.classes) == 4


def test_other_folders_next_to_mappings_of_another_kind_are_no_objectnet(images: Path) -> None:
    for name in (LABELS, SHARED):
        (images.parent / "mappings" / name).unlink()
    task = open_dataset(f"folder:{images}", "test").task
    assert task is not None
    assert len(task.classes) == 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (SHARED, None, "cannot read .*objectnet_to_imagenet_1k.json .*copy it from objectnet-1.0"),
        (LABELS, "{", "cannot read .*folder_to_objectnet_label.json .*copy it from objectnet-1.0"),
        (LABELS, "[]", "copy it from objectnet-1.0, where it maps names to names"),
        (LABELS, "{}", "names none of the sub-folders"),
    ],
)
def test_unusable_mappings_are_one_line(images: Path, name: str, content: str | None, message: str) -> None:
    path = images.parent / "mappings" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
        open_dataset(f"folder:{images}", "test")
