import math

import pytest
import torch

from workbench.embeddings import Embeddings
from workbench.losses import build_loss


def joined(student: torch.Tensor, teacher: torch.Tensor) -> list[list[float]]:
    """[student's row ‖ teacher's row] for every pair."""
    return [ours + theirs for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True)]


@pytest.mark.parametrize(("convention", "scale"), [("paper", 1 / 0.07), ("released", math.log(1 / 0.07))])
@pytest.mark.parametrize("teacher_width", [5, 8])
def test_it_is_clips_loss_on_the_fused_embeddings(
    embeddings, brute_force, convention: str, scale: float, teacher_width: int
) -> None:
    student, teacher = embeddings(1, width=5), embeddings(2, width=teacher_width)
    loss = build_loss("afd", convention=convention)
    found = loss(student, teacher).item()
    fusion = loss.learned.parts["afd"]
    assert fusion.image.weight.shape == fusion.text.weight.shape == (5, 5 + teacher_width)
    own = fusion.scale().item()
    assert own == pytest.approx(scale, rel=1e-6)  # a learned scale starts in float32
    fused = Embeddings(
        brute_force.unit_linear(joined(student.image_BD, teacher.image_BD), fusion.image),
        brute_force.unit_linear(joined(student.text_BD, teacher.text_BD), fusion.text),
        student.scale,
    )
    assert found == pytest.approx(brute_force.clip(fused, None, own), rel=1e-12)


def test_it_needs_no_projection_and_trains_its_fusion_and_scale(embeddings) -> None:
    loss = build_loss("afd")
    student, teacher = embeddings(1, width=4), embeddings(2, width=6)
    loss(student, teacher).backward()
    fusion = loss.learned.parts["afd"]
    assert all(parameter.grad.abs().sum() > 0 for parameter in fusion.parameters())
    assert student.image_BD.grad.abs().sum() > 0
    assert student.scale.grad is None
    assert all(parameter.grad is None for parameter in loss.learned.projections.parameters())


def test_both_fusions_start_from_weights_of_their_own(embeddings) -> None:
    loss = build_loss("afd")
    loss(embeddings(1), embeddings(2))
    fusion = loss.learned.parts["afd"]
    assert not torch.equal(fusion.image.weight, fusion.text.weight)
