"""Explorers of models without a run: their probe pairs, and the masks recovered from their weights."""

from pathlib import Path

import pytest
import torch

from workbench.config.inheritance import Plan
from workbench.inheritance.manual import inherit
from workbench.models.folder import save_folder
from workbench.models.spec import load_model
from workbench.notebook import AffinityExplorer, GradientExplorer, InformationExplorer, MaskExplorer
from workbench.notebook.explorer import open_run
from workbench.notebook.released import model_probe
from workbench.runs.snapshots import Probe, read_snapshot_history

TEACHER, RUN = "sample:scenes", "example-clip-kd"


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model folder with the widest channels of the sample teacher."""
    plan = Plan.parse({tower: {"width": 64, "width_rule": "magnitude"} for tower in ("image", "text")})
    folder = tmp_path_factory.mktemp("models") / "student"
    save_folder(inherit(load_model(TEACHER), plan), folder)
    return str(folder)


def test_affinities_of_a_file_are_next_to_those_of_a_run(student: str) -> None:
    explorer = AffinityExplorer(RUN, student)
    explorer.check()
    newest = read_snapshot_history(open_run(RUN), Probe).snapshots[-1]
    run, model = explorer.views
    # The run's pairs and teacher are the default.
    assert explorer._probes[1][0].captions == newest.captions
    assert explorer.selection["students"].keys() == {RUN, "student"}
    assert run.teacher_PP is not None and model.teacher_PP is not None
    assert abs(run.teacher_PP - model.teacher_PP).max() < 0.01  # half precision on disk
    alone = AffinityExplorer(student, data="samples:scenes/test", teacher=TEACHER)
    assert alone.selection["teacher"] is not None
    assert "data=SPEC" in str(AffinityExplorer(student).error)


def test_a_models_probe_holds_its_embeddings(student: str, tmp_path: Path) -> None:
    probe = model_probe(student, "samples:scenes/test", "", tmp_path, None)
    assert (probe.step, probe.teacher, len(probe.captions)) == (0, None, 32)
    model = load_model(student).eval()
    with torch.no_grad():
        text_PD = torch.nn.functional.normalize(model.encode_text(model.tokenizer(probe.captions)), dim=1)
    assert torch.allclose(torch.from_numpy(probe.student.text_PD).float(), text_PD, atol=1e-3)


def test_information_needs_a_teacher(student: str) -> None:
    explorer = InformationExplorer(TEACHER, data="samples:scenes/test", teacher=TEACHER)
    assert explorer.selection["bounds"].keys() >= {"student image → teacher text"}
    assert explorer.error is None
    assert InformationExplorer(student, data="samples:scenes/test").error is not None


def test_masks_of_a_file_are_the_parts_that_it_has(student: str) -> None:
    explorer = MaskExplorer(student, teacher=TEACHER)
    assert explorer.selection["towers"]["image"].width == 64
    assert set(explorer.overlap("magnitude")["shared (%)"]) == {100.0}
    assert set(explorer.overlap(student)["shared (%)"]) == {100.0}
    assert set(explorer.overlap("leading")["shared (%)"]) != {100.0}
    assert "teacher=SPEC" in str(MaskExplorer(student).error)


def test_gradients_need_a_run(student: str) -> None:
    assert "without a run" in str(GradientExplorer(student).error)
