"""Suites of a model: numbers of open_clip's own code, what is reused, and what is skipped."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from workbench.config.suite import Evaluation, Suite
from workbench.engine.suite import Outcome, run_suite
from workbench.models.folder import save_folder
from workbench.models.spec import load_model

pytestmark = pytest.mark.filterwarnings("ignore:.*classes of ImageNet-1k")
IDS = {"n01440764": 0, "n02123045": 281, "n02417914": 350, "n03773504": 657}
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"context_length": 77, "width": 16, "heads": 2, "layers": 1},
}
RunSuite = Callable[..., list[Outcome]]


def random_image(seed: int) -> Image.Image:
    """A smooth random image that is not square, so that resizing and cropping matter."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((40, 32), Image.Resampling.BICUBIC)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with OpenAI's tokenizer, ImageNet folders, and a shard of CLIP_benchmark with five captions an image."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    save_folder(load_model(f"config:{tmp_path / 'tiny.json'}", seed=5), tmp_path / "model")
    for number, name in enumerate(IDS):
        for split, count in (("val", 6), ("train", 5)):
            folder = tmp_path / "imagenet" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                random_image(100 * number + index + 7 * count).save(folder / f"{index}.png")
    (tmp_path / "wds_flickr" / "test").mkdir(parents=True)
    with tarfile.open(tmp_path / "wds_flickr" / "test" / "0.tar", "w") as shard:
        for number in range(30):
            image = io.BytesIO()
            random_image(number).save(image, "PNG")
            for end, content in (("png", image.getvalue()), ("txt", "\n".join(captions(number)).encode())):
                member = tarfile.TarInfo(f"s{number:07d}.{end}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return tmp_path


def captions(number: int) -> list[str]:
    return [
        f"{words} {number}, with {number % 7} more ." for words in ("a dog", "one cat", "two men", "a red bus", "it")
    ]


@pytest.fixture
def run(root: Path) -> RunSuite:
    """Outcomes of evaluations, given as tables, of the model."""

    def measure(*tables: dict[str, object], name: str = "mine") -> list[Outcome]:
        suite = Suite(name=name, evaluations=[Evaluation.parse(dict(table)) for table in tables])
        return list(run_suite(str(root / "model"), suite, root, root / "runs"))

    return measure


ZERO_SHOT = {"name": "IN", "task": "zero-shot", "data": "folder:{root}/imagenet/val"}
RETRIEVAL = {"name": "Flickr", "task": "retrieval", "data": "{root}/wds_flickr/test"}
PROBE = {"name": "probe", "task": "linear-probe", "data": "folder:{root}/imagenet/val",
         "train": "folder:{root}/imagenet/train", "shots": [1, "all"], "seeds": 2}  # fmt: skip


@torch.no_grad()
def test_numbers_are_those_of_open_clips_own_code(root: Path, run: RunSuite) -> None:
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{root / 'model'}")
    model.eval()
    tokenizer = open_clip.SimpleTokenizer()
    zero_shot, retrieval = (outcome.result for outcome in run(ZERO_SHOT, RETRIEVAL))

    names = [open_clip.IMAGENET_CLASSNAMES[number] for number in IDS.values()]
    weights_DK = open_clip.build_zero_shot_classifier(model, tokenizer, names, open_clip.OPENAI_IMAGENET_TEMPLATES)
    files = [file for name in IDS for file in sorted((root / "imagenet" / "val" / name).iterdir())]
    images = torch.stack([transform(Image.open(file)) for file in files])
    answers = (model.encode_image(images, normalize=True) @ weights_DK).argmax(1)
    accuracy = float((answers == torch.arange(len(IDS)).repeat_interleave(6)).double().mean())
    assert 0 < accuracy < 1
    assert zero_shot is not None
    assert zero_shot.metrics["zero_shot_top1"] == accuracy
    assert zero_shot.errors["zero_shot_top1"] == pytest.approx((accuracy * (1 - accuracy) / 24) ** 0.5)
    assert (zero_shot.num_images, zero_shot.num_classes, zero_shot.chance["zero_shot_top1"]) == (24, 4, 0.25)

    images = torch.stack([transform(random_image(number)) for number in range(30)])
    texts = tokenizer([caption for number in range(30) for caption in captions(number)])
    scores_MN = model.encode_text(texts, normalize=True) @ model.encode_image(images, normalize=True).T
    owner_M = torch.arange(30).repeat_interleave(5)
    assert retrieval is not None
    for k in (1, 5, 10):
        to_image = (scores_MN.topk(k, dim=1).indices == owner_M[:, None]).any(1).double().mean()
        to_text = (owner_M[scores_MN.T.topk(k, dim=1).indices] == torch.arange(30)[:, None]).any(1).double().mean()
        assert retrieval.metrics[f"text_to_image_r{k}"] == float(to_image)
        assert retrieval.metrics[f"image_to_text_r{k}"] == float(to_text)
    assert retrieval.metrics.keys() == retrieval.chance.keys() == retrieval.errors.keys()
    assert 0 < retrieval.metrics["image_to_text_r5"] < 1


def test_what_was_measured_is_reused_until_something_changes(root: Path, run: RunSuite) -> None:
    probe = PROBE | {"shots": [1]}
    first = run(ZERO_SHOT, probe)
    assert [outcome.state for outcome in first] == ["measured", "measured"]
    again = run(ZERO_SHOT, probe)
    assert [outcome.state for outcome in again] == ["reused", "reused"]
    assert [outcome.result for outcome in again] == [outcome.result for outcome in first]
    for changed in (ZERO_SHOT | {"pairs": 20}, probe | {"seeds": 1}):
        assert [outcome.state for outcome in run(changed)] == ["measured"]
    random_image(3).save(root / "imagenet" / "val" / "n01440764" / "more.png")
    assert [outcome.state for outcome in run(ZERO_SHOT)] == ["measured"]
    # The same architecture with other weights.
    save_folder(load_model(f"config:{root / 'tiny.json'}", seed=6), root / "model")
    assert [outcome.state for outcome in run(ZERO_SHOT)] == ["measured"]


def test_a_probe_has_an_error_over_seeds_and_images(run: RunSuite) -> None:
    (outcome,) = run(PROBE)
    assert outcome.result is not None
    assert list(outcome.result.metrics) == ["linear_probe_1", "linear_probe_all"]
    accuracy, error = (values["linear_probe_all"] for values in (outcome.result.metrics, outcome.result.errors))
    assert error == pytest.approx((accuracy * (1 - accuracy) / 24) ** 0.5)
    assert outcome.result.chance["linear_probe_1"] == 0.25


def test_missing_data_are_skipped_and_unusable_ones_fail_alone(root: Path, run: RunSuite) -> None:
    for number in range(3):
        (root / "ids" / str(number)).mkdir(parents=True)
        random_image(number).save(root / "ids" / str(number) / "0.png")
    skipped, fewer, classless, captionless, unnamed, measured = run(
        ZERO_SHOT | {"name": "gone", "data": "folder:{root}/gone"},
        ZERO_SHOT | {"name": "fewer", "classes": 1000},
        RETRIEVAL | {"name": "classless", "task": "zero-shot"},
        ZERO_SHOT | {"name": "captionless", "task": "retrieval"},
        ZERO_SHOT | {"name": "unnamed", "data": "folder:{root}/ids"},
        ZERO_SHOT | {"images": 50_000},
    )
    assert (skipped.state, skipped.result) == ("skipped", None)
    assert str(root / "gone") in skipped.reason
    assert fewer.state == classless.state == captionless.state == unnamed.state == "failed"
    assert "has 4 classes, and the complete data have 1,000" in fewer.reason
    assert "without a class" in classless.reason
    assert "no captions" in captionless.reason
    assert "classes.json" in unnamed.reason
    assert measured.result is not None
    assert measured.result.notes == ["24 images, and the complete data have 50,000"]


def test_a_gallery_is_all_images_unless_it_is_given(run: RunSuite) -> None:
    whole, parts = run(RETRIEVAL, RETRIEVAL | {"name": "in tens", "gallery": 10})
    assert whole.result is not None and parts.result is not None
    assert parts.result.metrics["image_to_text_r1"] > whole.result.metrics["image_to_text_r1"]


def test_an_interrupted_suite_keeps_what_it_has_measured(run: RunSuite, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("workbench.engine.suite.probe_evaluators", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(ZERO_SHOT, PROBE)
    assert [outcome.state for outcome in run(ZERO_SHOT, RETRIEVAL)] == ["reused", "measured"]


def _interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
