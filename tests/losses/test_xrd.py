import pytest
import torch
import torch.nn.functional as F

from workbench.embeddings import Embeddings
from workbench.losses import build_loss
from workbench.losses.comparison import Comparison
from workbench.losses.registry import make_loss


def test_it_uses_the_projection_where_widths_differ(embeddings, brute_force) -> None:
    student, teacher = embeddings(1, width=4), embeddings(2, width=6)
    loss = build_loss("xrd")
    found = loss(student, teacher).item()
    assert found == pytest.approx(brute_force.xrd(brute_force.projected(student, loss), teacher, 14.3), rel=1e-10)


@pytest.mark.parametrize("chunk_size", [0, 2])
@pytest.mark.parametrize("after_icl", [False, True])
def test_each_similarity_is_the_constant_target_of_the_other(embeddings, chunk_size: int, after_icl: bool) -> None:
    student, teacher = embeddings(1), embeddings(2)
    comparison = Comparison(student, teacher, student, chunk_size=chunk_size)
    moved = (student.image_BD, student.text_BD, student.scale)
    if after_icl:  # which shares the logits at this scale
        make_loss("icl", scale="student")(comparison)
    value = make_loss("xrd")(comparison)
    by_images = student.scale * student.image_BD @ teacher.text_BD.detach().T
    by_texts = student.scale * student.text_BD @ teacher.image_BD.detach().T

    def kl(target: torch.Tensor, ours: torch.Tensor) -> torch.Tensor:
        target = target.detach().log_softmax(1)
        return F.kl_div(ours.log_softmax(1), target, reduction="batchmean", log_target=True)

    pairs = [(by_images, by_texts), (by_texts, by_images), (by_images.T, by_texts.T), (by_texts.T, by_images.T)]
    expected = sum(kl(*pair) for pair in pairs) / 4
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    gradients = (torch.autograd.grad(of, moved) for of in (value, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_it_is_zero_for_similarities_that_are_equal(embeddings) -> None:
    one = embeddings(1)
    both_alike = Embeddings(one.image_BD, one.image_BD, one.scale)
    teacher = Embeddings(*[embeddings(2).text_BD] * 2, one.scale)
    assert build_loss("xrd")(both_alike, teacher).item() == pytest.approx(0, abs=1e-14)
