"""Custom autograd functions against finite differences and dense matrices."""

import pytest
import torch
import torch.nn.functional as F

from workbench.losses.blocks import LogSums, SigmoidSum, SoftmaxWeightedSum, WeightedCosines, block_rows, hide_diagonal_


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(3)
    first, second = (F.normalize(torch.randn(5, 3, generator=generator, dtype=torch.float64), dim=1) for _ in range(2))
    scale = torch.tensor(3.0, dtype=torch.float64)
    return [tensor.requires_grad_() for tensor in (first, second, scale)]


@pytest.mark.parametrize("size", [1, 2, 5, 9])
@pytest.mark.parametrize("keep_diagonal", [True, False])
@pytest.mark.parametrize("both_ways", [True, False])
def test_log_sums_have_the_gradients_of_finite_differences(inputs, size, keep_diagonal, both_ways) -> None:
    def log_sums(*tensors):
        return tuple(sums for sums in LogSums.apply(*tensors, size, both_ways, keep_diagonal) if sums is not None)

    assert torch.autograd.gradcheck(log_sums, inputs)


@pytest.mark.parametrize("size", [1, 2, 5, 9])
@pytest.mark.parametrize("per_direction", [True, False])
def test_softmax_weighted_sums_have_the_gradients_of_finite_differences(inputs, size, per_direction) -> None:
    rows, columns = torch.randn(2, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64).unbind()
    sums = [rows.requires_grad_(), columns.requires_grad_()]
    assert torch.autograd.gradcheck(
        lambda *tensors: SoftmaxWeightedSum.apply(*tensors, size, per_direction), [*inputs, *sums]
    )


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_sigmoid_sums_have_the_gradients_of_finite_differences(inputs, size) -> None:
    bias = torch.tensor(-1.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *tensors: SigmoidSum.apply(*tensors, size), [*inputs, bias])
    assert torch.autograd.gradcheck(lambda *tensors: SigmoidSum.apply(*tensors, -1.5, size), inputs)


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_weighted_cosines_have_the_gradients_of_finite_differences(inputs, size) -> None:
    weights = torch.rand(5, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def total(first, second):
        return WeightedCosines.apply(first, second, ((rows, weights[rows]) for rows in block_rows(5, size)))

    first, second, _ = inputs
    assert torch.autograd.gradcheck(total, [first, second])
    expected = (weights * (first @ second.T)).sum()
    assert float(total(first, second).detach()) == pytest.approx(float(expected.detach()), rel=1e-12)


def test_what_is_constant_gets_no_gradient(inputs) -> None:
    first, second, _ = inputs
    rows, columns = LogSums.apply(first, second.detach(), 2.0, 2, True, True)
    (rows.sum() + columns.sum()).backward()
    assert first.grad is not None
    assert second.grad is None


def test_the_diagonal_of_a_block_of_rows_is_hidden() -> None:
    found = hide_diagonal_(torch.zeros(2, 5), 3)
    assert found.isinf().nonzero().tolist() == [[0, 3], [1, 4]]
