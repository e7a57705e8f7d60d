import math

import pytest

from workbench.losses import build_loss


@pytest.mark.parametrize(("convention", "scale"), [("paper", 1 / 0.07), ("released", math.log(1 / 0.07))])
def test_the_students_anchors_pick_among_the_teachers_other_modality(
    embeddings, brute_force, convention: str, scale: float
) -> None:
    student, teacher = embeddings(1), embeddings(2)
    loss = build_loss("icl", convention=convention)
    found = loss(student, teacher).item()
    own = loss.learned.parts["icl"]().item()
    assert own == pytest.approx(scale, rel=1e-6)  # a learned scale starts in float32
    assert found == pytest.approx(brute_force.icl(student, teacher, own), rel=1e-12)


def test_both_models_scales_stay_what_they_are(embeddings) -> None:
    student, teacher = embeddings(1), embeddings(2)
    loss = build_loss("icl")
    loss(student, teacher).backward()
    assert student.scale.grad is None  # the loss has a scale of its own
    (parameter,) = loss.learned.parameters()
    assert parameter.grad.abs() > 0


def test_it_uses_the_projection_where_widths_differ(embeddings, brute_force) -> None:
    student, teacher = embeddings(1, width=4), embeddings(2, width=6)
    loss = build_loss("icl", scale=20)
    found = loss(student, teacher).item()
    projected = brute_force.projected(student, loss)
    assert found == pytest.approx(brute_force.icl(projected, teacher, 20.0), rel=1e-12)


def test_with_the_teacher_as_its_student_it_is_the_teachers_own_clip_loss(embeddings) -> None:
    student, teacher = embeddings(1), embeddings(1, scale=20.0)
    found = build_loss("icl", scale="teacher")(student, teacher).item()
    assert found == pytest.approx(build_loss("clip")(teacher).item(), rel=1e-12)
