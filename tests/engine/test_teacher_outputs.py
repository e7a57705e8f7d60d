import pytest
import torch

from workbench.engine.build import build_cohort
from workbench.engine.loop import train
from workbench.engine.teacher_outputs import TeacherForward
from workbench.models.weights import weights_sha256


@pytest.fixture
def counted(tiny, monkeypatch: pytest.MonkeyPatch):
    """A cohort of three epochs with two views, and how many rows its teacher embedded."""
    cohort = build_cohort({"run": tiny(data={"views": 2, "num_pairs": 50}, train={"num_steps": 12})})
    rows, honest = [], cohort.teacher.embed

    def embed(image, text):
        rows.append(len(image))
        return honest(image, text)

    monkeypatch.setattr(cohort.teacher, "embed", embed)
    return cohort, rows


def test_each_view_of_each_pair_is_embedded_once(counted) -> None:
    cohort, rows = counted
    shown = set()
    for step, batch in cohort.batches():
        cohort.teacher_forward(batch, step)
        shown |= set(zip(batch.keys, batch.views, strict=True))
    assert sum(rows) == len(shown) <= 2 * 50


def test_stored_embeddings_equal_a_new_forward(counted) -> None:
    cohort, _ = counted
    for step, batch in cohort.batches():
        found = cohort.teacher_forward(batch, step).embeddings
        fresh = TeacherForward(cohort.teacher, 0, 50)(batch).embeddings
        assert torch.equal(found.image_BD, fresh.image_BD)
        assert torch.equal(found.text_BD, fresh.text_BD)


def test_storing_changes_no_weight(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for limit_mb in (512, 0):
        monkeypatch.setattr("workbench.engine.teacher_outputs.MEMORY_MB", limit_mb)
        cohort = build_cohort({"run": tiny(data={"views": 2})})
        for _ in train(cohort):
            pass
        ends.append(weights_sha256(cohort.members[0].state))
    assert ends[0] == ends[1]
