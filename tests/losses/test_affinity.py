import pytest
import torch

from workbench.embeddings import Embeddings
from workbench.losses import build_loss


def test_paper_sums_and_release_averages_the_directions_at_tinyclips_scale(embeddings, brute_force) -> None:
    # Neither model's own scale (14.3, 30) has a part in it: both temperatures are 1/50.
    student, teacher = embeddings(1, scale=14.3), embeddings(2, width=7, scale=30.0)
    expected = brute_force.affinity(student, teacher, 50.0, 50.0)
    assert build_loss("affinity")(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    released = build_loss("affinity", convention="released")(student, teacher)
    assert released.item() == pytest.approx(expected / 2, rel=1e-12)


@pytest.mark.parametrize("convention", ["paper", "released"])
def test_a_student_equal_to_the_teacher_has_its_entropy_and_no_gradient(
    embeddings, brute_force, convention: str
) -> None:
    student, teacher = embeddings(1, scale=14.3), embeddings(1, scale=30.0)
    tables = [
        brute_force.log_affinity(*pair, 50.0)
        for pair in ((teacher.image_BD, teacher.text_BD), (teacher.text_BD, teacher.image_BD))
    ]
    entropy = sum(brute_force.cross_entropy(table, table) for table in tables)
    loss = build_loss("affinity", convention=convention)(student, teacher)
    assert loss.item() == pytest.approx(entropy / (2 if convention == "released" else 1), rel=1e-12)
    gradients = torch.autograd.grad(loss, (student.image_BD, student.text_BD))
    assert all(gradient.abs().max() < 1e-12 for gradient in gradients)


def test_it_is_crd_plus_the_teachers_entropy(embeddings) -> None:
    student, teacher = embeddings(1), embeddings(2)
    affinity = build_loss("affinity")
    relative = build_loss("crd", scale=50, teacher_scale=50)(student, teacher)
    difference = (affinity(student, teacher) - relative).item()
    assert difference == pytest.approx(affinity(teacher, teacher).item(), rel=1e-12)


def test_a_rotation_of_the_student_changes_nothing(embeddings) -> None:
    student, teacher = embeddings(1), embeddings(2)
    rotation_DD, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))
    turned = Embeddings(student.image_BD @ rotation_DD, student.text_BD @ rotation_DD, student.scale)
    loss = build_loss("affinity")
    assert loss(turned, teacher).item() == pytest.approx(loss(student, teacher).item(), rel=1e-12)
