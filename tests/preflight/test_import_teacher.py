"""Only what beats guessing is taken in as a teacher; of two activations, the one that finds clearly more pairs."""

import json
from pathlib import Path

import pytest
import torch
from open_clip import factory
from safetensors.torch import save_file

from workbench.engine.launch import launch
from workbench.models import architectures
from workbench.models.architectures import Normalization
from workbench.models.clip import Clip
from workbench.models.folder import load_folder
from workbench.models.names import folder_name
from workbench.models.spec import load_model
from workbench.models.teacher import Teacher
from workbench.preflight import import_teacher as module
from workbench.preflight.import_teacher import RECORD, import_teacher
from workbench.progress import Phase

DATA = "samples:scenes"
ARCHITECTURE = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 48, "patch_size": 8, "width": 128, "layers": 4, "head_width": 32, "pool_type": "avg"},
    "text_cfg": {"context_length": 20, "width": 128, "heads": 4, "layers": 2},
}


@pytest.fixture
def file(tmp_path: Path) -> str:
    """``open_clip:NAME@FILE`` of the good teacher's weights."""
    save_file(load_model("sample:scenes").towers.state_dict(), tmp_path / "good.safetensors")
    return f"open_clip:mini-w128@{tmp_path / 'good.safetensors'}"


@pytest.fixture
def untrained(tmp_path: Path) -> str:
    save_file(load_model("mini-w128", seed=1).towers.state_dict(), tmp_path / "untrained.safetensors")
    return f"open_clip:mini-w128@{tmp_path / 'untrained.safetensors'}"


def good(*_: object, **__: object) -> Clip:
    return load_model("sample:scenes")


def bad(*_: object, **__: object) -> Clip:
    return load_model("mini-w128", seed=1)


def test_a_teacher_is_written_as_a_folder_with_its_record(tmp_path: Path) -> None:
    imported = import_teacher("sample:scenes", num_pairs=100)
    imported.save(tmp_path / "mine")
    record = json.loads((tmp_path / "mine" / RECORD).read_text())
    assert record["weights_sha256"] == Teacher(load_folder(tmp_path / "mine")).fingerprint()
    assert (record["data"], record["num_pairs"], record["preprocessing"]["image_size"]) == (DATA, 100, 48)
    assert record["metrics"]["image_to_text_r1"] > 0.8
    assert record["guessing"]["image_to_text_r1"] < 0.1
    assert 0 < record["metrics"]["affinity_entropy"] < 5.3
    assert record["metrics_with_the_other_activation"] is None  # a sample teacher says how it was trained


def test_a_files_activation_stays_as_named_without_a_clear_difference(file: str) -> None:
    imported = import_teacher(file, DATA, num_pairs=100)
    assert imported.other is not None
    assert not imported.uses_quick_gelu
    assert imported.other.model.config["quick_gelu"] is True


def test_the_activation_that_finds_clearly_more_is_taken(
    file: str, untrained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_variant", bad)
    assert import_teacher(file, DATA, num_pairs=100).trial.margin > 5
    monkeypatch.setattr(module, "_variant", good)
    imported = import_teacher(untrained, DATA, num_pairs=100)
    assert imported.other is not None
    assert imported.trial.margin > 5 > imported.other.margin


def test_a_variant_has_the_same_weights_otherwise_activated_or_fed() -> None:
    model = load_model("sample:scenes").eval()
    image = torch.randint(256, (2, 3, 48, 48), dtype=torch.uint8)
    variants = [
        module._variant(model, quick_gelu=True).eval(),
        module._variant(model, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)).eval(),
    ]
    with torch.no_grad():
        for variant in variants:
            assert torch.equal(variant.towers.text_projection, model.towers.text_projection)
            assert not torch.allclose(variant.encode_image(image), model.encode_image(image))
        assert torch.equal(module._variant(model).eval().encode_image(image), model.encode_image(image))


def test_what_does_not_beat_guessing_is_refused_with_what_is_likely_wrong(untrained: str) -> None:
    line = (
        r"\Aopen_clip:mini-w128@.* does not beat guessing on samples:scenes: R@1 .*guessing .* of 100 pairs, with "
        r"quick_gelu or without; other normalizations do not help: .*tokenizer .*never trained.*--data SPEC\Z"
    )
    with pytest.raises(ValueError, match=line):
        import_teacher(untrained, DATA, num_pairs=100)


def test_another_image_normalization_is_named_in_the_error(
    tiny_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_variant", good)
    with pytest.raises(ValueError, match=r"normalized otherwise: with ImageNet's mean and std it has .*preprocess_cfg"):
        import_teacher(tiny_models["teacher"], DATA, num_pairs=100)


def test_the_normalization_that_finds_clearly_more_is_taken(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = load_model("sample:scenes"), Normalization((3.0, 4.0, 5.0), (1.0, 1.0, 1.0))
    usual = Normalization(right.mean, right.std)
    monkeypatch.setattr(module, "normalizations_of", lambda name: (usual, wrong) if name == "mini-w128" else ())
    kept = import_teacher(file, DATA, num_pairs=100)
    assert (kept.trial.model.mean, list(kept.normalized)) == (usual.mean, [str(wrong)])
    monkeypatch.setattr(architectures, "OPENAI", wrong)
    monkeypatch.setattr(architectures, "normalizations_of", lambda _: (usual, wrong))
    changed = import_teacher(file, DATA, num_pairs=100)  # loaded as the wrong default has it, without the warning
    assert (changed.trial.model.mean, list(changed.normalized)) == (usual.mean, [str(wrong)])
    assert list(changed.record()["metrics_with_other_normalizations"]) == [str(wrong)]
    assert changed.record()["preprocessing"]["mean"] == usual.mean


def test_a_bare_file_is_recognized_by_its_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vocab = load_model("sample:scenes").tokenizer.vocab_size
    config = ARCHITECTURE | {"text_cfg": ARCHITECTURE["text_cfg"] | {"vocab_size": vocab}, "tokenizer": "words:scenes"}
    monkeypatch.setitem(factory._MODEL_CONFIGS, "mini-here", config)
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": load_model("sample:scenes").towers.state_dict()}, path)
    assert import_teacher(str(path), DATA, num_pairs=100).trial.margin > 5


def test_a_runs_own_pairs_are_its_data(tiny, tmp_path: Path) -> None:
    for _ in launch({"one": tiny()}, tmp_path).events():
        pass
    with pytest.raises(ValueError, match="run:one does not beat guessing on samples:scenes"):
        import_teacher("run:one", num_pairs=60, runs_dir=tmp_path)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("nowhere.pt", r"no weights at nowhere\.pt"),
        ("sample:scene", "did you mean 'scenes'"),
        ("mini-w64", "names an architecture without weights"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(source: str, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        import_teacher(source, DATA, num_pairs=20)


@pytest.mark.parametrize("num_pairs", [1, 5])
def test_a_few_pairs_tell_nothing(num_pairs: int) -> None:
    with pytest.raises(
        ValueError, match=f"{num_pairs} pairs of samples:scenes are too few to tell a teacher from guessing"
    ):
        import_teacher("sample:scenes", num_pairs=num_pairs)


def test_images_and_captions_are_counted_while_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(Phase, "advance", lambda self, number=1: seen.append((self.label, number)))
    import_teacher("sample:scenes", num_pairs=300)
    assert [number for label, number in seen if label.startswith("encoding") and "images" in label] == [256, 44]
    assert [number for label, number in seen if label.startswith("encoding") and "captions" in label] == [256, 44]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("open_clip:ViT-B-16@laion400m_e32", "ViT-B-16-laion400m_e32"),
        ("open_clip:ViT-B-16@/data/clip/epoch_32.pt", "ViT-B-16-epoch_32"),
        ("/data/teacher.v2.safetensors", "teacher.v2"),
        ("config:sizes/mine.json@epoch_32.pt", "mine-epoch_32"),
        ("run:a-b_c", "a-b_c"),
        ("models/mine/", "mine"),
        ("sample:emoji", "emoji"),
    ],
)
def test_a_folder_is_named_for_its_teacher(source: str, name: str) -> None:
    assert folder_name(source) == name
