import math

import pytest
import torch

from workbench.losses import build_loss


def test_it_is_the_mean_cross_entropy_of_both_directions(embeddings, brute_force) -> None:
    student = embeddings(1)
    image_to_text = brute_force.info_nce(student.image_BD, student.text_BD, 14.3)
    text_to_image = brute_force.info_nce(student.text_BD, student.image_BD, 14.3)
    assert float(build_loss("clip")(student)) == pytest.approx((image_to_text + text_to_image) / 2, rel=1e-12)


def test_it_is_log_b_when_all_pairs_look_alike(embeddings) -> None:
    student = embeddings(1, num_pairs=1)
    alike = type(student)(student.image_BD.expand(8, -1), student.text_BD.expand(8, -1), student.scale)
    assert float(build_loss("clip")(alike)) == pytest.approx(math.log(8))


def test_gradients_agree_with_finite_differences(embeddings) -> None:
    student = embeddings(2, num_pairs=4, width=3)
    loss = build_loss("clip")
    inputs = (student.image_BD, student.text_BD, student.scale)
    assert torch.autograd.gradcheck(lambda *parts: loss(type(student)(*parts)), inputs)
