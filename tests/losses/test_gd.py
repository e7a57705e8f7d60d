"""Gradient distillation against autograd of CLIP's loss, and against loops over numbers."""

import pytest
import torch
from torch import Tensor

from workbench.embeddings import Embeddings
from workbench.losses import LOSSES, build_loss

# λ = 1e8 times the released loss on unrelated random embeddings, scales 14.3 and 50 (PAPERS.md).
PUBLISHED_SHARES = [(1024, 512, 0.0039), (256, 64, 0.505), (64, 64, 7.8)]


def clip_of_the_batch(image_BD: Tensor, text_BD: Tensor, scale: Tensor) -> Tensor:
    """Σ_k ½ (−log p[k,k] − log q[k,k]): B times CLIP's loss."""
    logits_BB = scale * image_BD @ text_BD.T
    matched = logits_BB.log_softmax(1).diagonal() + logits_BB.log_softmax(0).diagonal()
    return -matched.sum() / 2


def gd_by_autograd(student: Embeddings, teacher: Embeddings) -> Tensor:
    """The definition, differentiable twice in the student."""
    distances = []
    for side in (student, teacher):
        embeddings = (side.image_BD, side.text_BD)
        loss = clip_of_the_batch(*embeddings, side.scale)
        distances.append(torch.autograd.grad(loss, embeddings, create_graph=side is student))
    return sum((ours - theirs).square().sum(1).mean() for ours, theirs in zip(*distances, strict=True))


@pytest.mark.parametrize(("num_pairs", "width"), [(2, 3), (6, 5), (33, 16)])
def test_it_is_the_distance_of_the_gradients_that_autograd_finds(embeddings, num_pairs: int, width: int) -> None:
    student, teacher = embeddings(1, num_pairs, width, 14.3), embeddings(2, num_pairs, width, 50.0)
    found = build_loss("gd")(student, teacher)
    assert found.item() == pytest.approx(gd_by_autograd(student, teacher).item(), rel=1e-10)


def test_its_gradient_is_that_of_autograd_through_autograd(embeddings) -> None:
    student, teacher = embeddings(1, 12, 7), embeddings(2, 12, 7, 50.0)
    leaves = (student.image_BD, student.text_BD, student.scale)
    expected = torch.autograd.grad(gd_by_autograd(student, teacher), leaves)
    found = torch.autograd.grad(build_loss("gd")(student, teacher), leaves)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("convention", ["paper", "released"])
def test_the_teacher_gets_no_gradient(embeddings, convention: str) -> None:
    student, teacher = embeddings(1), embeddings(2)
    build_loss("gd", convention=convention)(student, teacher).backward()
    assert student.scale.grad.abs() > 0
    assert all(leaf.grad is None for leaf in (teacher.image_BD, teacher.text_BD, teacher.scale))


def test_both_conventions_agree_with_loops_over_numbers(embeddings, brute_force) -> None:
    student, teacher = embeddings(1, scale=14.3), embeddings(2, scale=50.0)
    paper = build_loss("gd")(student, teacher)
    assert paper.item() == pytest.approx(brute_force.gd(student, teacher, 14.3, 50.0), rel=1e-10)
    released = build_loss("gd", convention="released")(student, teacher)
    assert released.item() == pytest.approx(brute_force.gd_released(student, teacher, 14.3, 50.0), rel=1e-10)


def test_where_widths_differ_the_gradient_is_taken_at_the_projected_embeddings(embeddings, brute_force) -> None:
    student, teacher = embeddings(1, width=4), embeddings(2, width=7, scale=50.0)
    loss = build_loss("gd")
    found = loss(student, teacher).item()
    projected = brute_force.projected(student, loss)
    leaves = projected.image_BD.requires_grad_(), projected.text_BD.requires_grad_()
    expected = gd_by_autograd(Embeddings(*leaves, student.scale), teacher)
    assert found == pytest.approx(expected.item(), rel=1e-10)


def test_the_released_loss_is_tiny_because_its_temperature_is_upside_down(embeddings) -> None:
    # PAPERS.md: 9.9e-9 as released; 5.3e-3 "with the temperature the right way up", which is why λ is 1e8.
    student, teacher = embeddings(1, 64, 512, 14.3), embeddings(2, 64, 512, 50.0)
    released = build_loss("gd", convention="released")(student, teacher).item()
    assert released == pytest.approx(9.9e-9, rel=0.02)
    upright = build_loss("gd", convention="released", scale=1 / 14.3, teacher_scale=1 / 50)
    assert upright(student, teacher).item() == pytest.approx(5.3e-3, rel=0.2)


@pytest.mark.parametrize(("num_pairs", "width", "share"), PUBLISHED_SHARES)
def test_the_published_weight_times_the_released_loss(embeddings, num_pairs: int, width: int, share: float) -> None:
    student, teacher = embeddings(1, num_pairs, width, 14.3), embeddings(2, num_pairs, width, 50.0)
    found = 1e8 * build_loss("gd", convention="released")(student, teacher).item()
    assert found == pytest.approx(share, rel=0.05)


def test_a_published_weight_on_the_papers_equation_is_refused() -> None:
    with pytest.raises(ValueError, match="released"):
        LOSSES["gd"]("paper").check_weight(1e8)
    LOSSES["gd"]("released").check_weight(1e8)
