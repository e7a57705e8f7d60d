import shutil
from pathlib import Path

import pytest
import tomli_w
import torch

import workbench
from workbench.config.toml import read_toml
from workbench.engine.device import resolved
from workbench.engine.launch import launch
from workbench.engine.remeasure import publish_teacher, remeasure
from workbench.models.folder import load_folder
from workbench.runs.directory import find_run


@pytest.fixture
def finished(tiny, tmp_path: Path):
    started = launch({"run": tiny()}, tmp_path)
    for _ in started.events():
        pass
    return started.cohort


@pytest.mark.usefixtures("finished")
def test_a_run_reads_back_as_it_was(tiny, tmp_path: Path) -> None:
    record = workbench.load_run("run", tmp_path)
    assert record.config == resolved(tiny())
    assert record.summary.state == "finished"
    assert record.events[-1].state == "finished"
    assert repr(record) == f"<run run: finished at step 12 of 12, {len(record.events)} events>"


def test_a_student_is_ready_to_encode(finished, tmp_path: Path) -> None:
    student = workbench.load_student("run", tmp_path)
    trained = finished.members[0].state.student.eval()
    tokens = student.tokenizer(["a red circle"])
    with torch.no_grad():
        assert torch.equal(student.encode_text(tokens), trained.encode_text(tokens))
    assert not student.training


def test_measuring_again_finds_what_the_run_found(finished, tmp_path: Path) -> None:
    again = remeasure("run", None, num_pairs=40, runs_dir=tmp_path)
    assert again.metrics == finished.measured["run", "validation"].metrics
    checkpoint = find_run(tmp_path, "run").checkpoints / "step-00000012"
    assert remeasure(str(checkpoint), None, num_pairs=40, runs_dir=tmp_path).metrics == again.metrics


def test_a_run_copied_without_its_teacher_is_measured_without_agreement(finished, tmp_path: Path) -> None:
    full = finished.measured["run", "validation"].metrics
    run, copied = find_run(tmp_path, "run"), tmp_path / "elsewhere" / "copied"
    shutil.copytree(run.path, copied)
    table = read_toml(copied / "run.toml")
    table["teacher"]["model"] = "/home/somebody/teacher"
    (copied / "run.toml").write_text(tomli_w.dumps(table))
    measured = remeasure(str(copied), None, num_pairs=40, runs_dir=tmp_path)
    assert measured.metrics == {name: full[name] for name in measured.metrics}
    assert {"image_to_text_r1", "zero_shot_top1"} <= measured.metrics.keys() < full.keys()
    (note,) = measured.notes
    assert "teacher.model /home/somebody/teacher cannot be loaded" in note
    assert remeasure("run", None, num_pairs=40, runs_dir=tmp_path).notes == ()


@pytest.mark.usefixtures("finished")
def test_a_teacher_with_other_weights_is_not_compared_with(tmp_path: Path) -> None:
    run = find_run(tmp_path, "run")
    table = read_toml(run.config_file)
    table["teacher"]["model"] = "sample:scenes"
    run.config_file.write_text(tomli_w.dumps(table))
    measured = remeasure("run", None, num_pairs=40, runs_dir=tmp_path)
    assert "cka" not in measured.metrics
    assert "sample:scenes now has other weights" in measured.notes[0]


@pytest.mark.usefixtures("finished")
def test_a_run_copied_without_its_loss_file_is_measured(tmp_path: Path) -> None:
    run = find_run(tmp_path, "run")
    table = read_toml(run.config_file)
    table["loss"]["mine"] = {"file": "/home/somebody/loss.py"}
    run.config_file.write_text(tomli_w.dumps(table))
    assert "loss.mine.file /home/somebody/loss.py" in remeasure("run", None, num_pairs=40, runs_dir=tmp_path).notes[0]


@pytest.mark.usefixtures("finished")
def test_pairs_that_are_not_on_this_machine_are_named_with_the_option(tmp_path: Path) -> None:
    run = find_run(tmp_path, "run")
    table = read_toml(run.config_file)
    table["data"]["validation"] = "/home/somebody/pairs.tar"
    run.config_file.write_text(tomli_w.dumps(table))
    with pytest.raises(ValueError, match=r"/home/somebody/pairs\.tar.*--data SPEC\Z"):
        remeasure("run", None, runs_dir=tmp_path)


def test_a_model_without_a_run_needs_data_named(tiny_models, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--data SPEC"):
        remeasure(tiny_models["teacher"], None, runs_dir=tmp_path)
    measured = remeasure(tiny_models["teacher"], "samples:scenes/validation", num_pairs=40, runs_dir=tmp_path)
    assert "cka" not in measured.metrics  # no teacher to agree with
    assert measured.num_pairs == 40


def test_a_published_teacher_is_half_as_large_and_measured_as_written(finished, tmp_path: Path) -> None:
    document = publish_teacher(find_run(tmp_path, "run"), tmp_path / "out")
    weights = tmp_path / "out" / "open_clip_model.safetensors"
    num_parameters = document["num_params"]["total"]
    assert weights.stat().st_size < 2 * num_parameters + 8000
    measured = remeasure(str(tmp_path / "out"), "samples:scenes/validation", num_pairs=40, runs_dir=tmp_path)
    assert measured.metrics == document["validation"]["metrics"]
    trained = finished.members[0].state.student.towers.state_dict()
    for name, tensor in load_folder(tmp_path / "out").towers.state_dict().items():
        assert torch.equal(tensor, trained[name].half().float()), name


def test_importing_the_package_loads_no_torch() -> None:
    import subprocess
    import sys

    program = "import sys, workbench; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
