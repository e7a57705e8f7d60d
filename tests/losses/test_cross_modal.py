import pytest
import torch

from workbench.embeddings import Embeddings
from workbench.losses import build_loss


def test_each_modality_of_the_teacher_is_replaced_in_turn(embeddings, brute_force) -> None:
    student, teacher = embeddings(1), embeddings(2, scale=30.0)
    expected = brute_force.cross_modal(student, teacher, 50.0, 50.0)
    assert build_loss("cross_modal")(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_it_uses_the_projection_where_widths_differ(embeddings, brute_force) -> None:
    student, teacher = embeddings(1, width=4), embeddings(2, width=6)
    loss = build_loss("cross_modal")
    found = loss(student, teacher).item()
    projected = brute_force.projected(student, loss)
    assert found == pytest.approx(brute_force.cross_modal(projected, teacher, 50.0, 50.0), rel=1e-12)


def test_a_student_equal_to_the_teacher_has_its_entropy_and_no_gradient(embeddings) -> None:
    student, teacher = embeddings(1), embeddings(1)
    loss = build_loss("cross_modal")(student, teacher)
    gradients = torch.autograd.grad(loss, (student.image_BD, student.text_BD))
    assert loss.item() == pytest.approx(build_loss("affinity")(teacher, teacher).item(), rel=1e-12)
    assert all(gradient.abs().max() < 1e-12 for gradient in gradients)


def test_a_rotation_of_the_student_is_seen(embeddings) -> None:
    # What affinity mimicking cannot see: the student's space must be the teacher's.
    teacher = embeddings(1)
    rotation_DD, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4)))
    turned = Embeddings(teacher.image_BD @ rotation_DD, teacher.text_BD @ rotation_DD, teacher.scale)
    loss = build_loss("cross_modal")
    assert loss(turned, teacher).item() > loss(teacher, teacher).item() + 1
