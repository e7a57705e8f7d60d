"""Sources of a student, and imports needed to read one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.models.export import export_model
from workbench.models.folder import WEIGHTS, config_files, save_folder
from workbench.models.names import find_folder
from workbench.models.spec import load_student
from workbench.models.weights import read_weights
from workbench.runs.checkpoints import write_checkpoint
from workbench.runs.directory import create_run

STRANGER = """
import sys, torch, open_clip
from safetensors.torch import load_file, save_file
probe = load_file("probe.safetensors")
found = {}
with torch.no_grad():
    model = open_clip.create_model("local-dir:theirs").eval()
    found["theirs"] = model.encode_text(probe["text"])
    assert not [name for name in sys.modules if name.startswith("workbench")]

    from workbench import load_student
    student = load_student("ours")
    found["ours_image"] = student.encode_image(probe["image"])
    found["ours_text"] = student.encode_text(student.tokenizer(["a red square", "zebra"]))
trains = ("engine", "losses", "data", "evaluation", "inheritance", "sweeps", "cli", "config.run")
trains = tuple(f"workbench.{name}" for name in trains) + ("optuna", "textual", "tomli_w", "onnx", "matplotlib")
assert not [name for name in sys.modules if name.startswith(trains)], sorted(sys.modules)
save_file(found, "found.safetensors")
"""


@pytest.fixture
def run(make_clip, tmp_path):
    """A run of two checkpoints in the folder "runs"; the student of the second has seed 2."""
    run = create_run(tmp_path / "runs", "alone", "")
    for seed in (1, 2):
        model = make_clip(seed)
        save_folder(model, tmp_path / "model")
        training = {WEIGHTS: (tmp_path / "model" / WEIGHTS).read_bytes(), "training.safetensors": b"x" * 100_000}
        write_checkpoint(run, seed, config_files(model) | training, {})
    return run


def weight(model):
    return model.towers.text_projection


def test_every_name_of_a_run_is_its_newest_checkpoint(run, make_clip, tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    newest = run.checkpoints / "step-00000002"
    for source in ("alone", "run:alone", run.path, str(run.path), f"run:{run.path}"):
        assert find_folder(source, runs) == newest
        assert torch.equal(weight(load_student(source, runs)), weight(make_clip(2)))
    monkeypatch.chdir(run.path)
    assert find_folder(".", runs) == newest


def test_a_checkpoint_or_a_model_folder_is_itself(run, make_clip, tmp_path):
    older = run.checkpoints / "step-00000001"
    assert find_folder(older, tmp_path) == older
    assert torch.equal(weight(load_student(older)), weight(make_clip(1)))
    assert find_folder(tmp_path / "model") == tmp_path / "model"
    assert not load_student(tmp_path / "model").training


def test_a_spec_is_read_as_ever(tmp_path):
    assert find_folder("sample:scenes", tmp_path) is None
    assert load_student("sample:scenes", tmp_path).image_size == 48


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("alonee", "unknown run or model 'alonee': did you mean 'alone'?"),
        ("run:alonee", "did you mean 'alone'?"),
        ("mini-w64", "names an architecture without weights"),
        ("zzzzzzzzzz", "a model is a built-in size"),
        ("weights.pt", "no weights at weights.pt"),
        ("", "cannot read open_clip_config.json"),
        ("sample:scene", "did you mean 'scenes'"),
    ],
)
@pytest.mark.usefixtures("run")
def test_what_is_not_there_is_one_line(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"\A[^\n]*{message.replace('?', '[?]')}[^\n]*\Z"):
        load_student(source)


def test_a_run_without_a_checkpoint_is_refused(tmp_path):
    create_run(tmp_path / "runs", "young", "")
    with pytest.raises(ValueError, match="run young has no checkpoint yet"):
        load_student("young", tmp_path / "runs")


def test_a_damaged_checkpoint_is_not_taken_for_a_student(run, make_clip, tmp_path):
    newest = run.checkpoints / "step-00000002"
    content = bytearray((newest / WEIGHTS).read_bytes())
    content[-3] ^= 1  # still a readable file
    (newest / WEIGHTS).write_bytes(content)
    assert read_weights(newest / WEIGHTS)
    with pytest.raises(ValueError, match="is damaged: its checksum differs from the manifest"):
        load_student(newest)
    assert torch.equal(weight(load_student("alone", tmp_path / "runs")), weight(make_clip(1)))  # the one before


def test_an_export_is_read_without_the_workbench(make_clip, tmp_path, tokenizer, images, config):
    """open_clip where no workbench is imported, then ``load_student`` where nothing that trains is."""
    from workbench.config.inheritance import TowerShape
    from workbench.models.clip import Clip
    from workbench.models.configs import with_shape

    plain = make_clip(1)
    shape = TowerShape(width=32, head_width=16, heads=(2, 0), channels=(0, 7))
    odd = Clip(with_shape(config, "image", shape), tokenizer, seed=2).eval()
    export_model(plain, tmp_path / "theirs", "open_clip")
    export_model(odd, tmp_path / "ours", "native")
    image, text = images(3), tokenizer(["a red square", "zebra"])
    save_file({"image": image, "text": text}, tmp_path / "probe.safetensors")
    subprocess.run([sys.executable, "-c", STRANGER], cwd=tmp_path, check=True, env=_environment())
    found = load_file(tmp_path / "found.safetensors")
    for name, expected in {
        "theirs": plain.encode_text(text),
        "ours_image": odd.encode_image(image),
        "ours_text": odd.encode_text(text),
    }.items():
        torch.testing.assert_close(found[name], expected.detach(), atol=1e-5, rtol=0)


def _environment() -> dict[str, str]:
    import os

    root = str(Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": root}
