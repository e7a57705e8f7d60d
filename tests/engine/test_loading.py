from pathlib import Path

import pytest
import torch

import workbench
from workbench.engine.device import settled
from workbench.engine.launch import launch
from workbench.engine.publish import publish_teacher
from workbench.engine.remeasure import remeasure
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
    assert record.config == settled(tiny())
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
