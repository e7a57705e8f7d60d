import pytest
import torch

from workbench.embeddings import Embeddings
from workbench.losses import build_loss


def test_paper_sums_and_release_averages_the_directions(embeddings, brute_force) -> None:
    student, teacher = embeddings(1, scale=14.3), embeddings(2, width=7, scale=50.0)
    expected = brute_force.crd(student, teacher, 14.3, 50.0)
    assert build_loss("crd")(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    released = build_loss("crd", convention="released")(student, teacher)
    assert released.item() == pytest.approx(expected / 2, rel=1e-12)


def test_a_rotation_of_the_student_changes_nothing(embeddings) -> None:
    teacher, student = embeddings(1), embeddings(1)
    rotation_DD, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))
    turned = Embeddings(student.image_BD @ rotation_DD, student.text_BD @ rotation_DD, student.scale)
    assert build_loss("crd")(turned, teacher).item() == pytest.approx(0, abs=1e-12)


def test_only_the_student_gets_a_gradient(embeddings) -> None:
    student, teacher = embeddings(1), embeddings(2)
    build_loss("crd")(student, teacher).backward()
    assert student.scale.grad.abs() > 0
    assert all(leaf.grad is None for leaf in (teacher.image_BD, teacher.text_BD, teacher.scale))
