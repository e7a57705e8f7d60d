"""The model type by which CLIP_benchmark measures our students, on an unevenly pruned one."""

import io
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from workbench.config.inheritance import TowerShape
from workbench.config.suite import Evaluation, Suite
from workbench.embeddings import Resizing
from workbench.engine.suite import run_suite
from workbench.models import clip_benchmark
from workbench.models.clip import Clip
from workbench.models.configs import with_shape
from workbench.models.folder import save_folder
from workbench.models.tokenizers import named_tokenizer

NAMES = [f"thing number {number}" for number in range(12)]
TEMPLATES = ["a photo of a {c}.", "the {c}"]


def random_image(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((40, 32), Image.Resampling.BICUBIC)


@pytest.fixture
def student(tmp_path: Path) -> Path:
    """A folder of a model whose layers differ in heads and channels, some of them without any."""
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 2, "head_width": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }
    image = TowerShape(width=16, head_width=8, heads=(2, 1), channels=(40, 7))
    text = TowerShape(width=16, head_width=8, heads=(1, 0), channels=(0, 33))
    config = with_shape(with_shape(config, "image", image), "text", text)
    # Another normalization and resizing than the default of either side.
    preprocessing = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.25), "resizing": Resizing("squash", "bilinear")}
    model = Clip(config, named_tokenizer("bpe", 77), seed=3, **preprocessing)
    save_folder(model, tmp_path / "student")
    return tmp_path / "student"


@pytest.fixture
def webdataset(tmp_path: Path) -> Path:
    """60 images of 12 classes, as CLIP_benchmark publishes them."""
    folder = tmp_path / "wds_cars"
    (folder / "test").mkdir(parents=True)
    with tarfile.open(folder / "test" / "0.tar", "w") as shard:
        for number in range(60):
            image = io.BytesIO()
            random_image(number).save(image, "PNG")
            for end, content in (("png", image.getvalue()), ("cls", b"%d" % (number % 12))):
                member = tarfile.TarInfo(f"s{number:07d}.{end}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    (folder / "classnames.txt").write_text("\n".join(NAMES))
    (folder / "zeroshot_classification_templates.txt").write_text("\n".join(TEMPLATES))
    return folder / "test"


@torch.no_grad()
def test_its_loops_find_what_we_measure(student: Path, webdataset: Path, tmp_path: Path) -> None:
    model, transform, tokenizer = clip_benchmark.load_for_clip_benchmark("any", str(student), None, "cpu")
    assert not model.training
    weights = []
    for name in NAMES:  # its zero-shot classifier
        prompts = tokenizer([template.format(c=name) for template in TEMPLATES])
        weight = F.normalize(model.encode_text(prompts), dim=-1).mean(dim=0)
        weights.append(weight / weight.norm())
    images = torch.stack([transform(random_image(number)) for number in range(60)])
    logits_NK = 100.0 * F.normalize(model.encode_image(images), dim=-1) @ torch.stack(weights, dim=1)
    correct_NK = logits_NK.topk(5, 1).indices == torch.arange(60)[:, None] % 12
    suite = Suite(name="s", evaluations=[Evaluation(name="cars", task="zero-shot", data=str(webdataset))])
    (outcome,) = run_suite(str(student), suite, tmp_path, tmp_path)
    assert outcome.result is not None
    assert outcome.result.metrics["zero_shot_top1"] == float(correct_NK[:, 0].double().mean())
    assert outcome.result.metrics["zero_shot_top5"] == float(correct_NK.any(1).double().mean())


def test_its_loader_dispatches_on_our_type(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, models = ModuleType("clip_benchmark"), ModuleType("clip_benchmark.models")
    models.TYPE2FUNC = {"open_clip": None}
    models.MODEL_TYPES = listed = ["open_clip"]
    package.models = models
    monkeypatch.setitem(sys.modules, "clip_benchmark", package)
    monkeypatch.setitem(sys.modules, "clip_benchmark.models", models)
    for _ in range(2):
        clip_benchmark.register()
    assert listed == ["open_clip", "workbench"]
    loaded = models.TYPE2FUNC["workbench"](model_name="m", pretrained=str(student), cache_dir=None, device="cpu")
    assert len(loaded) == 3


def test_without_clip_benchmark_the_remedy_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "clip_benchmark", None)
    with pytest.raises(ValueError, match=r"^[^\n]*pip install '.*\[clip_benchmark\]'[^\n]*$"):
        clip_benchmark.register()


def test_the_type_is_added_to_eval_alone() -> None:
    with_model_type = clip_benchmark.with_model_type
    assert with_model_type(["build", "x.json"]) == ["build", "x.json"]
    assert with_model_type(["eval"]) == ["eval", "--model_type", "workbench", "--model", "workbench"]
    assert with_model_type(["eval", "--model=mine"]) == ["eval", "--model=mine", "--model_type", "workbench"]
    assert with_model_type(["eval", "--model_type", "open_clip", "--model", "x"])[-1] == "x"


@pytest.mark.slow
def test_clip_benchmark_itself_measures_the_same(
    student: Path, webdataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("clip_benchmark")
    import json

    (webdataset / "nshards.txt").write_text("1")
    options = {"--pretrained": student, "--dataset": "wds/cars", "--dataset_root": webdataset.parent,
               "--output": tmp_path / "out.json", "--num_workers": 0, "--batch_size": 16}  # fmt: skip
    words = [str(word) for pair in options.items() for word in pair]
    monkeypatch.setattr(sys, "argv", ["x", "eval", *words, "--no_amp", "--quiet"])
    clip_benchmark.main()
    found = json.loads((tmp_path / "out.json").read_text())["metrics"]
    suite = Suite(name="s", evaluations=[Evaluation(name="cars", task="zero-shot", data=str(webdataset))])
    (outcome,) = run_suite(str(student), suite, tmp_path, tmp_path)
    assert outcome.result is not None
    assert outcome.result.metrics == {"zero_shot_top1": found["acc1"], "zero_shot_top5": found["acc5"]}
