import math

import pytest
import torch

from workbench.losses import build_loss


@pytest.mark.parametrize(("convention", "scale"), [("paper", 1 / 0.07), ("released", math.log(1 / 0.07))])
def test_the_students_anchors_pick_among_the_teachers_other_modality(
    embeddings, brute_force, convention: str, scale: float
) -> None:
    student, teacher = embeddings(1), embeddings(2)
    expected = brute_force.info_nce(student.image_BD, teacher.text_BD, scale)
    expected += brute_force.info_nce(student.text_BD, teacher.image_BD, scale)
    found = build_loss("icl", convention=convention)(student, teacher)
    assert float(found) == pytest.approx(expected / 2, rel=1e-6)  # the learnt scale starts in float32


def test_both_scales_stay_what_they_are(embeddings) -> None:
    student, teacher = embeddings(1), embeddings(2)
    loss = build_loss("icl")
    loss(student, teacher).backward()
    assert student.scale.grad is None  # the loss has a scale of its own
    (parameter,) = loss.learnt.parameters()
    assert parameter.grad.abs() > 0


def test_it_uses_the_projection_where_widths_differ(embeddings) -> None:
    loss = build_loss("icl")
    value = loss(embeddings(1, width=4), embeddings(2, width=6))
    assert torch.isfinite(value)
    assert set(loss.learnt.projections) == {"image", "text"}
