import pytest
import torch

from workbench.losses import build_loss


def test_paper_sums_and_release_averages_the_directions(embeddings, brute_force) -> None:
    student, teacher = embeddings(1, scale=14.3), embeddings(2, width=7, scale=50.0)
    directions = [
        brute_force.kl(
            brute_force.log_affinity(getattr(teacher, anchor), getattr(teacher, other), 50.0),
            brute_force.log_affinity(getattr(student, anchor), getattr(student, other), 14.3),
        )
        for anchor, other in (("image_BD", "text_BD"), ("text_BD", "image_BD"))
    ]
    assert float(build_loss("crd")(student, teacher)) == pytest.approx(sum(directions), rel=1e-12)
    released = build_loss("crd", convention="released")(student, teacher)
    assert float(released) == pytest.approx(sum(directions) / 2, rel=1e-12)


def test_a_student_that_sees_the_same_relations_pays_nothing(embeddings) -> None:
    teacher, student = embeddings(1), embeddings(1)
    loss = build_loss("crd")(student, teacher)
    loss.backward()
    assert float(loss) == pytest.approx(0, abs=1e-12)
    assert torch.allclose(student.image_BD.grad, torch.zeros_like(student.image_BD), atol=1e-12)


def test_a_rotation_of_the_student_costs_nothing(embeddings) -> None:
    teacher, student = embeddings(1), embeddings(1)
    rotation_DD, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))
    turned = type(student)(student.image_BD @ rotation_DD, student.text_BD @ rotation_DD, student.scale)
    assert float(build_loss("crd")(turned, teacher)) == pytest.approx(0, abs=1e-12)
