import numpy as np
import pytest
import torch

from workbench.embeddings import Embeddings
from workbench.engine.build import build_cohort
from workbench.engine.launch import launch
from workbench.engine.probe import save_probe
from workbench.events import EvalDone
from workbench.runs.directory import create_run
from workbench.runs.snapshots import MOST_PAIRS, Probe, read_snapshot_history


@pytest.fixture
def cohort(tiny):
    return build_cohort({"run": tiny()})


def test_the_probe_is_what_was_evaluated(cohort) -> None:
    evaluator, member = cohort.evaluators["validation"], cohort.members[0]
    probe = evaluator.measure(member.state.student, member.state.learnt).probe
    pairs, student = evaluator.pairs, member.state.student.eval()
    assert len(probe.captions) == MOST_PAIRS
    assert probe.captions[3] == pairs.captions[pairs.caption_image_index_M.tolist().index(3)]
    with torch.no_grad():
        images = torch.cat([student.encode_image(chunk) for chunk in pairs.image_chunks(16)])[:MOST_PAIRS]
        texts = student.encode_text(student.tokenizer(probe.captions))
    own = Embeddings.from_raw(images, texts, student.scale)
    np.testing.assert_allclose(probe.student.image_PD, own.image_BD.numpy(), atol=1e-3)
    np.testing.assert_allclose(probe.student.text_PD, own.text_BD.numpy(), atol=1e-3)
    np.testing.assert_allclose(
        probe.teacher.image_PD, evaluator.teacher_pairs().image_BD[:MOST_PAIRS].numpy(), atol=1e-3
    )
    assert probe.student.scale == student.scale.item()


def test_a_probe_that_cannot_be_kept_is_a_warning(cohort, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    member = cohort.members[0]
    probe = cohort.evaluators["validation"].measure(member.state.student).probe
    assert list(save_probe(member, probe)) == []  # it keeps nothing
    member.directory = create_run(tmp_path, "run", 'recipe = "x"\n')

    def refuse(*_):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("workbench.engine.probe.write_snapshot", refuse)
    (warning,) = save_probe(member, probe)
    assert "no space left" in warning.message


def test_every_evaluation_on_the_way_leaves_one(tiny, tmp_path) -> None:
    started = launch({"run": tiny(evaluate={"every_steps": 2})}, tmp_path)
    directory = started.directories["run"]
    events = list(started.events())
    steps = [event.step for event in events if isinstance(event, EvalDone) and event.split == "validation"]
    kept = sorted(int(path.stem.partition("-")[2]) for path in directory.snapshots.glob("probe-*"))
    assert kept == steps != []
    assert read_snapshot_history(directory, Probe).num_skipped == 0
