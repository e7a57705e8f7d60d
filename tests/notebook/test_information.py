import json

import numpy as np
import pytest
import torch

from workbench.embeddings import Embeddings
from workbench.evaluation.agreement import mutual_information_bounds
from workbench.models.spec import SIZES
from workbench.notebook import InformationExplorer, encode_pairs, probe_of
from workbench.notebook.explorer import open_run
from workbench.runs.summary import summarize

RUN = "example-clip-kd"


def embeddings(seed: int, width: int = 8) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    image_BD, noise_BD = torch.randn(2, 33, width, generator=generator)
    return Embeddings.from_raw(image_BD, image_BD + 0.3 * noise_BD, torch.tensor(12.0))


@pytest.fixture(scope="module")
def explorer() -> InformationExplorer:
    return InformationExplorer(RUN)


def test_dragging_updates_the_figure_to_that_step(explorer: InformationExplorer) -> None:
    figure, late = explorer.figure, explorer.selection
    explorer.step.index = 0
    assert explorer.figure is figure
    moved = explorer.image.value
    explorer.refresh()
    assert explorer.image.value == moved
    early = explorer.selection
    assert early["step"] < late["step"]
    student = "student image → teacher text"
    assert early["bounds"][student] < late["bounds"][student] <= late["at most"] == pytest.approx(np.log(16))


def test_moving_the_scale_overrides_the_learned_one(explorer: InformationExplorer) -> None:
    learned = explorer.selection["scale"]
    explorer.scale.value = 1.0
    assert not explorer.own_scale.value
    flat = explorer.selection
    assert flat["scale"] == pytest.approx(1.0)
    explorer.own_scale.value = True
    assert explorer.selection["scale"] == learned
    assert explorer.selection["bounds"] != flat["bounds"]


def test_without_icl_only_the_probe_and_without_a_teacher_an_error() -> None:
    alone = InformationExplorer("example-tinyclip")
    assert len(alone.figure.axes) == 1
    assert alone.selection["scale"] == pytest.approx(alone._probes[-1].student.scale)
    assert len(InformationExplorer([probe_of(embeddings(0), embeddings(1))]).figure.axes) == 1
    assert "no probe pairs" in str(InformationExplorer([probe_of(embeddings(0))]).error)
    assert "different widths" in str(InformationExplorer([probe_of(embeddings(0), embeddings(1, width=6))]).error)


@pytest.mark.slow
def test_encoded_pairs_give_the_runs_bounds() -> None:
    pairs = encode_pairs(RUN, num_pairs=300)
    assert len(pairs.student) == len(pairs.teacher) == 300
    found = mutual_information_bounds(pairs.student, pairs.teacher, pairs.scale)
    recorded = summarize(open_run(RUN)).test_metrics
    # of 300 of the 5,000 pairs instead of blocks of 1,000, and rounded weights: below, and not far
    for name, bound in found.items():
        assert recorded[name] - 0.6 < bound < recorded[name] + 0.15
    largest = {name: float(one.mean_N[-1]) for name, one in pairs.bounds().items()}
    assert largest["student text → teacher image"] == pytest.approx(found["mutual_information_text"], abs=0.5)


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The SPEC of a student of another width than its teacher."""
    table = json.loads((SIZES / "mini-w64.json").read_text())
    path = tmp_path_factory.mktemp("narrow") / "narrow.json"
    path.write_text(json.dumps(table | {"embed_dim": 96}))
    return f"config:{path}"


@pytest.mark.slow
def test_a_narrower_student_is_projected_by_its_losses(command_line, narrow: str, tmp_path) -> None:
    settings = ("--set", f"student.model={narrow}", "--set", "data.num_test_pairs=500", "--steps", "12")
    at = ("--runs", str(tmp_path))
    assert command_line("train", "--recipe", "clip-kd", "--name", "projected", *settings, *at).code == 0
    pairs = encode_pairs(tmp_path / "projected", num_pairs=500)
    assert (pairs.student.width, pairs.teacher.width) == (512, 512)
    recorded = summarize(open_run(tmp_path / "projected")).test_metrics
    found = mutual_information_bounds(pairs.student, pairs.teacher, pairs.scale)
    assert found == pytest.approx({name: recorded[name] for name in found}, abs=0.01)

    assert command_line("train", "--recipe", "crd", "--name", "bare", *settings, *at).code == 0
    with pytest.raises(ValueError, match="a student of width 96, a teacher of width 512, and no loss"):
        encode_pairs(tmp_path / "bare", num_pairs=10)


def test_a_run_without_a_checkpoint_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match="has no checkpoint"):
        encode_pairs("example-tinyclip")
