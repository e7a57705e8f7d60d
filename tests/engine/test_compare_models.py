"""Models on the same pairs: what each has alone, and differences paired by these pairs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.engine.compare_models import compare_models
from workbench.engine.launch import launch
from workbench.engine.remeasure import remeasure
from workbench.models.folder import load_folder, save_folder

SPEC = "samples:scenes/validation"


@pytest.fixture
def near(tiny_models: dict[str, str], tmp_path: Path) -> str:
    """The teacher with a little noise on every weight."""
    model = load_folder(Path(tiny_models["teacher"]))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.towers.parameters():
            tensor.add_(0.05 * tensor.std(correction=0) * torch.randn(tensor.shape, generator=generator))
    save_folder(model, tmp_path / "near")
    return str(tmp_path / "near")


def test_differences_are_paired_and_the_nearer_model_is_found(
    tiny, tiny_models: dict[str, str], near: str, tmp_path: Path
) -> None:
    for _ in launch({"run": tiny()}, tmp_path).events():
        pass
    teacher = tiny_models["teacher"]
    found = compare_models(["run", near], SPEC, teacher=teacher, num_pairs=40, runs_dir=tmp_path)
    run, other = found.models
    assert (found.num_pairs, found.notes, run.gains) == (40, (), {})
    # A run's learned projection is used with the teacher that it was trained with.
    alone = remeasure("run", None, num_pairs=40, runs_dir=tmp_path)
    assert run.measured.metrics == alone.metrics
    assert {"similarity_single", "cka"} <= alone.metrics.keys()
    for name, gain in other.gains.items():
        assert gain.mean == pytest.approx(other.measured.metrics[name] - run.measured.metrics[name], abs=1e-9)
        assert gain.low <= gain.mean <= gain.high
    kl = other.gains["affinity_kl"]
    by_pair = [one.measured.agreement_by_pair["affinity_kl"].numpy() for one in (run, other)]
    half = np.std(by_pair[1] - by_pair[0], ddof=1) / 40**0.5
    assert kl.high < 0
    assert (kl.high - kl.low) / 2 == pytest.approx(2.0227 * half, rel=1e-3)  # t of 39 degrees of freedom
    assert other.measured.metrics["similarity_single"] > 0.9
    # Without --teacher it is the run's own.
    again = compare_models(["run", near], None, num_pairs=40, runs_dir=tmp_path)
    assert [one.measured.metrics for one in again.models] == [one.measured.metrics for one in found.models]


def test_a_file_agrees_with_any_teacher_without_a_run(tiny_models: dict[str, str], near: str, tmp_path: Path) -> None:
    measured = remeasure(near, SPEC, num_pairs=40, teacher=tiny_models["teacher"], runs_dir=tmp_path)
    assert measured.metrics["cka"] > 0.9
    assert measured.teacher.keys() >= {"image_to_text_r1"}
    found = compare_models([near, "sample:scenes"], SPEC, num_pairs=40, runs_dir=tmp_path)
    assert all("cka" not in one.measured.metrics for one in found.models)
    assert found.models[1].gains["image_to_text_r1"].mean > 0
