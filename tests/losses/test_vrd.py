import math

import pytest
import torch
import torch.nn.functional as F

from workbench.losses import build_loss


@pytest.mark.parametrize(("convention", "scale"), [("paper", 1 / 0.07), ("released", math.log(1 / 0.07))])
def test_each_modality_has_a_scale_of_its_own(embeddings, brute_force, convention: str, scale: float) -> None:
    student, teacher = embeddings(1), embeddings(2)
    loss = build_loss("vrd", convention=convention)
    found = loss(student, teacher).item()
    scales = {name: value.item() for name, value in loss.learned.scales().items()}
    assert scales == pytest.approx({"vrd image": scale, "vrd text": scale}, rel=1e-6)
    assert found == pytest.approx(brute_force.vrd(student, teacher, scales["vrd image"]), rel=1e-10)


@pytest.mark.parametrize("chunk_size", [0, 2])
def test_the_captions_are_a_constant_target_of_the_images(embeddings, leaves, chunk_size: int) -> None:
    student, teacher = embeddings(1), embeddings(2)
    loss = build_loss("vrd", chunk_size=chunk_size)
    value = loss(student, teacher)
    moved = {name: leaf for name, leaf in leaves(loss, student, teacher).items() if name != "scale"}
    image_scale, text_scale = (loss.learned.parts["vrd"][modality]() for modality in ("image", "text"))
    image = image_scale * student.image_BD @ teacher.image_BD.detach().T
    text = text_scale * student.text_BD @ teacher.text_BD.detach().T
    labels = torch.arange(len(image))
    expected = torch.zeros((), dtype=torch.float64)
    for one, other in ((image, text), (image.T, text.T)):
        target = other.detach().log_softmax(1)
        kl = F.kl_div(one.log_softmax(1), target, reduction="batchmean", log_target=True)
        expected = expected + (F.cross_entropy(one, labels) + F.cross_entropy(other, labels) + kl) / 2
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    gradients = (torch.autograd.grad(of, list(moved.values())) for of in (value, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_scale_that_is_given_is_that_of_both_modalities(embeddings, brute_force) -> None:
    student, teacher = embeddings(1, width=4), embeddings(2, width=6)
    loss = build_loss("vrd", scale=20)
    found = loss(student, teacher).item()
    assert not loss.learned.parts
    assert found == pytest.approx(brute_force.vrd(brute_force.projected(student, loss), teacher, 20.0), rel=1e-10)
