"""ImageNet and its variants: the papers' names and templates, and the same scores as open_clip's own."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image

from workbench.data.evaluation_set import open_evaluation_set
from workbench.data.sources.imagenet import imagenet_names, imagenet_templates
from workbench.data.spec import open_dataset
from workbench.engine.evaluate import Evaluator
from workbench.evaluation.zero_shot import build_classifier
from workbench.models.spec import load_model

# WordNet id -> number: a tench, a cat, an ibex, and the four classes that share two names, missile and sunglasses.
IDS = {
    "n01440764": 0,
    "n02123045": 281,
    "n02417914": 350,
    "n03773504": 657,
    "n04008634": 744,
    "n04355933": 836,
    "n04356056": 837,
}
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"context_length": 77, "width": 16, "heads": 2, "layers": 1},
}
pytestmark = pytest.mark.filterwarnings("ignore:.*classes of ImageNet-1k")
WriteImages = Callable[..., list[str]]


@pytest.fixture
def folder(write_images: WriteImages, tmp_path: Path) -> Path:
    """Four images of each of seven classes."""
    for number, name in enumerate(IDS):
        write_images(4, f"imagenet/{name}", 4 * number)
    return tmp_path / "imagenet"


def test_scores_are_those_of_open_clip(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    student = load_model(f"config:{tmp_path / 'tiny.json'}", seed=3).eval()
    pairs = open_evaluation_set(f"folder:{folder}", "validation")
    own = Evaluator(pairs, None, pairs.task, block_size=0, device=torch.device("cpu")).measure(student)

    names = [open_clip.IMAGENET_CLASSNAMES[number] for number in IDS.values()]
    classifier_DK = open_clip.build_zero_shot_classifier(
        student.towers, open_clip.SimpleTokenizer(), names, open_clip.OPENAI_IMAGENET_TEMPLATES
    )
    assert pairs.task is not None
    with torch.no_grad():
        classifier_KD = build_classifier(
            lambda prompts: student.encode_text(student.tokenizer(prompts)),
            pairs.task.classes,
            pairs.task.templates,
            verbatim=pairs.task.verbatim,
        )
        assert torch.allclose(classifier_KD.T, classifier_DK, atol=1e-7, rtol=0)
        transform = open_clip.image_transform(16, is_train=False, mean=student.mean, std=student.std)
        files = [file for row in zip(*(sorted((folder / name).iterdir()) for name in IDS), strict=True) for file in row]
        images = torch.stack([transform(Image.open(file)) for file in files])
        logits_NK = 100 * student.towers.encode_image(images, normalize=True) @ classifier_DK
    first = [names.index(name) for name in names]  # equal names have equal logits, up to rounding
    answers = [first[answer] for answer in logits_NK.argmax(1).tolist()]
    expected = [answer == index % 7 for index, answer in enumerate(answers)]
    assert 0 < sum(expected) < 28
    assert own.hits["zero_shot_top1"].tolist() == expected
    assert pairs.classes_N is not None
    assert pairs.classes_N[:3] == ["tench", "tabby cat", "Alpine ibex"]
    assert pairs.classes_N[3:7] == ["missile", "missile (2)", "sunglasses", "sunglasses (2)"]


def test_some_classes_are_scored_among_themselves_with_verbatim_prompts(folder: Path) -> None:
    with pytest.warns(UserWarning, match=r"'.*imagenet' has 7 classes of ImageNet-1k: .* as the papers do"):
        dataset = open_dataset(f"folder:{folder}", "test")
    assert dataset.task is not None
    assert dataset.task.verbatim
    assert len(dataset.task.classes) == 7
    assert dataset.task.templates == imagenet_templates()
    assert len(imagenet_templates()) == 80
    assert dataset.text(2).captions == ("a photo of an Alpine ibex.",)
    # Classes with one name have the same captions, which match the images of both.
    assert dataset.text(3).group == dataset.text(4).group == "missile"


def test_files_in_the_folder_win(folder: Path) -> None:
    (folder / "templates.json").write_text('["a {}"]')
    task = open_dataset(f"folder:{folder}", "test").task
    assert task is not None
    assert (task.templates, task.verbatim, task.classes[2]) == (("a {}",), False, ("Alpine ibex",))
    (folder / "classes.json").write_text(json.dumps({name: f"class of {name}" for name in IDS}))
    task = open_dataset(f"folder:{folder}", "test").task
    assert task is not None
    assert task.classes[0] == ("class of n01440764",)


def test_imagenet_v2_has_indices() -> None:
    names = imagenet_names(sorted(map(str, range(1000))))
    assert names is not None
    assert list(names.values()) == list(open_clip.IMAGENET_CLASSNAMES)
    assert list(names)[:3] == ["0", "1", "2"]
    assert names["350"] == "Alpine ibex"


@pytest.mark.parametrize(
    "folders",
    [
        [],
        ["dog", "n01440764"],
        ["n02084071", "n01440764"],  # dog, a parent of ImageNet's breeds
        list(map(str, range(999))),
        list(map(str, range(1001))),
        ["0", "1"],
        ["00", "01"],
    ],
)
def test_other_folders_are_not_imagenet(folders: list[str]) -> None:
    assert imagenet_names(folders) is None


def test_reading_the_names_imports_neither_torch_nor_open_clip() -> None:
    code = (
        "import sys\n"
        "from workbench.data.sources.imagenet import imagenet_names, imagenet_templates\n"
        "assert imagenet_names(['n01440764']) == {'n01440764': 'tench'} and len(imagenet_templates()) == 80\n"
        "assert not {'torch', 'open_clip', 'timm'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
