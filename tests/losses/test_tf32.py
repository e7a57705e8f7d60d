"""Losses in TF32: embeddings are rounded as a GPU rounds the factors of a product, and all parts of a loss agree."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from workbench.config.run import LossConfig
from workbench.embeddings import Embeddings
from workbench.losses.comparison import Comparison
from workbench.losses.objective import Objective
from workbench.losses.tf32 import rounded, tf32_products


def by_bits(values: np.ndarray) -> np.ndarray:
    """float32 rounded to 10 bits after the leading one, to the nearest and ties to even, in integers."""
    bits = values.view(np.uint32).astype(np.uint64)
    bits = bits + 0xFFF + ((bits >> 13) & 1)
    return (bits & 0xFFFFE000).astype(np.uint32).view(np.float32)


@given(st.lists(st.floats(-2, 2, width=32, allow_subnormal=False), min_size=1, max_size=50))
def test_values_are_rounded_to_ten_bits(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    values[np.abs(values) < 1e-30] = 0  # the split of a smaller number would be subnormal
    found = rounded(torch.from_numpy(values)).numpy()
    assert (found == by_bits(values)).all()
    assert (rounded(torch.from_numpy(found)).numpy() == found).all()  # as a GPU finds them: nothing left to round


def test_the_gradient_passes_unchanged() -> None:
    values = torch.randn(9, requires_grad=True)
    (rounded(values) * torch.arange(9.0)).sum().backward()
    assert torch.equal(values.grad, torch.arange(9.0))


@pytest.fixture
def nearly_solved() -> tuple[torch.Tensor, torch.Tensor]:
    """Unit-length images and captions of 64 pairs, each far closer to its own than to others, and a scale of 100."""
    generator = torch.Generator().manual_seed(0)
    image_BD, noise_BD = torch.randn(2, 64, 512, generator=generator)
    return F.normalize(image_BD, dim=1), F.normalize(image_BD + 4.0 * noise_BD, dim=1)


def clip_loss_in_float64(image_BD: torch.Tensor, text_BD: torch.Tensor, diagonal_B: torch.Tensor) -> torch.Tensor:
    logits_BB = 100 * image_BD.double() @ text_BD.double().T
    return ((logits_BB.logsumexp(0) + logits_BB.logsumexp(1)) / 2 - 100 * diagonal_B).mean()


@pytest.mark.parametrize("chunk_size", [0, 16])
def test_the_diagonal_is_that_of_the_same_product(nearly_solved, chunk_size: int) -> None:
    image_BD, text_BD = nearly_solved
    objective = Objective({"clip": LossConfig(weight=1.0)}, 64, None, chunk_size, in_tf32=True)
    student = Embeddings(image_BD, text_BD, torch.tensor(100.0))
    comparison = Comparison(student, None, student, chunk_size=chunk_size, in_tf32=True)
    found = float(objective(comparison).total)

    image64, text64 = (torch.from_numpy(by_bits(part.numpy())).double() for part in nearly_solved)
    consistent = float(clip_loss_in_float64(image64, text64, (image64 * text64).sum(1)))
    # What a GPU does by itself: it rounds the product, and nothing tells the diagonal of it.
    mixed = float(clip_loss_in_float64(image64, text64, (image_BD.double() * text_BD.double()).sum(1)))
    exact = float(clip_loss_in_float64(image_BD, text_BD, (image_BD.double() * text_BD.double()).sum(1)))
    assert found == pytest.approx(consistent, rel=0.02)  # float32 itself: 2e-4 is the difference of logits of 24
    assert consistent == pytest.approx(exact, rel=0.002)
    assert abs(mixed - exact) > 0.1 * exact


def test_only_products_are_rounded_and_each_tensor_once(nearly_solved) -> None:
    image_BD, text_BD = nearly_solved
    student = Embeddings(image_BD, text_BD, torch.tensor(100.0))
    comparison = Comparison(student, student, student, in_tf32=True)
    one = comparison.logits(("student", "image"), ("student", "text"), 1.0)
    other = comparison.logits(("projected", "image"), ("teacher", "text"), 1.0)
    assert one.first_BD is other.first_BD
    assert not torch.equal(one.first_BD, image_BD)
    assert comparison.embeddings("student").image_BD is image_BD


def test_the_switch_of_the_gpu_is_put_back() -> None:
    assert not torch.backends.cuda.matmul.allow_tf32
    with tf32_products(True):
        assert torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    with tf32_products(False):
        assert not torch.backends.cuda.matmul.allow_tf32


def test_candidates_that_are_not_rounded_are_refused() -> None:
    configs = {"icl": LossConfig.parse({"weight": 1.0, "candidates": "all"})}
    with pytest.raises(ValueError, match=r"train\.loss_precision=fp32"):
        Objective(configs, 8, 4, in_tf32=True)
