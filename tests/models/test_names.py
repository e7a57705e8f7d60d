"""SPEC checks without torch agree with open_clip and with the loaders."""

import json
from pathlib import Path

import open_clip
import pytest

from workbench.engine.launch import create
from workbench.models import tokenizer_files
from workbench.models.configs import check_counts
from workbench.models.names import (
    FORMATS,
    NEEDED,
    check_format,
    check_model,
    check_source,
    open_clip_names,
    shipped_names,
    size_names,
)
from workbench.models.spec import load_model


def test_the_architectures_are_those_that_open_clip_lists() -> None:
    assert sorted(open_clip_names()) == sorted(open_clip.list_models())
    assert set(shipped_names()) <= set(open_clip.list_models())
    assert "ViT-B-16" in shipped_names()


GOOD = ["mini-w64", "open_clip:ViT-B-16", "open_clip:ViT-T-16", "config:model.json", "sample:scenes", "folder"]
UNTRAINED = GOOD[:4]
BAD = {
    "": "unknown model",
    "mini-w46": "mini-w",
    "ViT-B-16": "open_clip:ViT-B-16",
    "model.json": "config:model.json",
    "open_clip:ViT-B-61": "ViT-B-16",
    "open_clip:ViT-B-16@gone.pt": "no weights at gone.pt",
    "open_clip:ViT-B-16@empty.pt": "empty.pt: the file is empty",
    "config:gone.json": "gone.json",
    "config:model.json@gone.pt": "no weights at gone.pt",
    "sample:scnes": "scenes",
    "sample:": "sample model",
    "run:gone": "no run 'gone'",
    "gone.safetensors": "no weights at gone.safetensors",
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}
    Path("model.json").write_text(json.dumps(tiny))
    Path("empty.pt").touch()
    Path("folder").mkdir()


@pytest.mark.parametrize("spec", GOOD)
def test_a_spec_that_names_something_passes(spec: str) -> None:
    check_model(spec)
    if spec in UNTRAINED:
        with pytest.raises(ValueError, match="architecture without weights"):
            check_model(spec, needs_weights=True)
    else:
        check_model(spec, needs_weights=True)


@pytest.mark.parametrize("spec", BAD)
def test_a_spec_that_names_nothing_is_refused_as_the_loader_refuses_it(spec: str) -> None:
    with pytest.raises(ValueError, match=BAD[spec]) as early:
        check_model(spec)
    with pytest.raises(ValueError, match=BAD[spec]) as late:
        load_model(spec, seed=0)
    assert str(early.value) == str(late.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("coca_ViT-B-32", "multimodal_cfg.* choose a CLIP"),
        ("roberta-ViT-B-32", "roberta-base of transformers, which is not supported"),
    ],
)
def test_an_unsupported_architecture_is_refused_as_such_with_and_without_weights(name: str, says: str) -> None:
    Path("unsupported.json").write_text(json.dumps(open_clip.get_model_config(name)))
    Path("some.pt").write_bytes(b"x")
    for spec in (f"open_clip:{name}", "config:unsupported.json"):
        for form in (spec, f"{spec}@some.pt"):
            for needs_weights in (False, True):
                with pytest.raises(ValueError, match=says):
                    check_model(form, needs_weights=needs_weights)


def test_a_file_of_weights_without_its_hugging_face_tokenizer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("some.pt").write_bytes(b"x")
    check_model("open_clip:ViT-B-16-SigLIP")
    with pytest.raises(ValueError, match=r"needs the tokenizer timm/ViT-B-16-SigLIP: put its tokenizer\.json"):
        check_model("open_clip:ViT-B-16-SigLIP@some.pt")
    Path("tokenizer.json").write_text('{"kind": "bpe", "context_length": 77}')  # one of the workbench
    with pytest.raises(ValueError, match="needs the tokenizer"):
        check_model("open_clip:ViT-B-16-SigLIP@some.pt")
    Path("tokenizer.json").write_text('{"model": {"type": "Unigram"}}')
    check_model("open_clip:ViT-B-16-SigLIP@some.pt")
    monkeypatch.setattr(tokenizer_files, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'clip-distillation-workbench\[hf\]'"):
        check_model("open_clip:ViT-B-16-SigLIP@some.pt")


def test_options_of_a_tokenizer_that_are_not_known_are_refused() -> None:
    config = open_clip.get_model_config("ViT-B-16-SigLIP")
    config["text_cfg"]["tokenizer_kwargs"] = {"clean": "lower", "language": "de"}
    Path("other.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"tokenizer_kwargs has language"):
        check_model("config:other.json")


def test_the_numbers_of_every_shipped_architecture_are_accepted() -> None:
    for name in shipped_names():
        check_counts(open_clip.get_model_config(name))


def test_every_built_in_size_passes() -> None:
    assert "mini-w64" in size_names()
    for size in size_names():
        check_model(size)


def test_a_source_is_a_run_with_a_checkpoint_a_folder_or_a_trained_model(tiny) -> None:
    run = create("one", tiny(), Path("runs"))
    for source in ("one", "run:one", "runs/one"):
        with pytest.raises(ValueError, match="has no checkpoint yet"):
            check_source(source, Path("runs"))
    with pytest.raises(ValueError, match="did you mean 'one'"):
        check_source("oen", Path("runs"))
    with pytest.raises(ValueError, match="architecture without weights"):
        check_source("mini-w64", Path("runs"))
    (run.checkpoints / "step-00000004").mkdir()
    for source in ("one", "runs/one", "folder", "sample:scenes"):
        check_source(source, Path("runs"))


@pytest.mark.parametrize(
    ("name", "half", "message"),
    [
        ("onyx", False, "unknown format 'onyx': did you mean 'onnx'?"),
        ("torchscript", False, "choose one of: native, onnx, open_clip"),
        ("onnx", True, "drop --half"),
    ],
)
def test_what_cannot_be_is_one_line(monkeypatch, name, half, message):
    monkeypatch.setitem(NEEDED, "onnx", ())
    with pytest.raises(ValueError, match=message):
        check_format(name, half=half)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(NEEDED, "onnx", ("no_such_package",))
    with pytest.raises(ValueError, match=r"no_such_package.*pip install 'clip-distillation-workbench\[onnx\]'\Z"):
        check_format("onnx")
    for name in FORMATS.keys() - NEEDED.keys():
        check_format(name, half=True)


def test_a_folder_of_a_packages_name_is_no_package(monkeypatch, tmp_path):
    (tmp_path / "onnx_of_mine").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(NEEDED, "onnx", ("onnx_of_mine",))
    with pytest.raises(ValueError, match="is not installed"):
        check_format("onnx")
