"""Dense and chunked logits: equal values and gradients, with chunked memory of a few rows."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from workbench.embeddings import Embeddings
from workbench.losses import build_loss
from workbench.losses.logits import Logits, cross_entropy, default_chunk_size, matched_pairs_loss

PAIRWISE = ["clip", "crd", "gd", "icl", "afd", "affinity", "cross_modal", "single_modal"]
PAIRWISE += ["vrd", "xrd", "dark"]
CASES = [(name, {"convention": convention}) for name in PAIRWISE for convention in ("paper", "released")]
CASES += [
    ("single_modal", {"keep_diagonal": False}),
    ("clip", {"scale": 30}),
    ("dark", {"first": -0.8}),
    ("gd", {"scale": 30, "teacher_scale": 20}),
]


def value_and_gradients(loss, leaves, inputs) -> dict[str, Tensor]:
    """The loss and its gradient at every leaf, by name, in units in which the released gd is of order 1."""
    value = loss(*inputs)
    if (loss.loss.name, loss.loss.convention) == ("gd", "released"):
        value = 1e8 * value
    found = leaves(loss, *inputs)
    gradients = torch.autograd.grad(value, tuple(found.values()), allow_unused=True, materialize_grads=True)
    return {"value": value.detach(), **dict(zip(found, gradients, strict=True))}


def whole_and_in_blocks(name: str, options: dict[str, Any], chunk_size: int, leaves, inputs) -> list[dict[str, Tensor]]:
    losses = (build_loss(name, chunk_size=size, **options) for size in (0, chunk_size))
    return [value_and_gradients(loss, leaves, inputs) for loss in losses]


@pytest.mark.parametrize("chunk_size", [1, 3, 5, 8, 15])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_blocks_change_nothing(arguments, leaves, name: str, options: dict[str, Any], chunk_size: int) -> None:
    whole, blocks = whole_and_in_blocks(name, options, chunk_size, leaves, arguments(name, num_pairs=8))
    for quantity, expected in whole.items():
        torch.testing.assert_close(blocks[quantity], expected, rtol=1e-10, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(
    case=st.sampled_from(CASES),
    num_pairs=st.integers(2, 12),
    widths=st.tuples(st.integers(2, 6), st.integers(2, 6)),  # at 1, unit vectors are signs and gradients all rounding
    chunk_size=st.integers(1, 14),
)
def test_blocks_change_nothing_whatever_the_sizes(arguments, leaves, case, num_pairs, widths, chunk_size) -> None:
    name, options = case
    whole, blocks = whole_and_in_blocks(name, options, chunk_size, leaves, arguments(name, num_pairs, *widths))
    for quantity, expected in whole.items():
        torch.testing.assert_close(blocks[quantity], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_blocks_are_as_good_in_float32(arguments, leaves, name: str, options: dict[str, Any]) -> None:
    if (name, options.get("keep_diagonal", True)) == ("single_modal", True):
        options = options | {"scale": 5, "teacher_scale": 8}  # at 50 the loss is 1e-7, below what float32 resolves
    inputs = arguments(name, 300, 32, 48, torch.float32)
    whole, blocks = whole_and_in_blocks(name, options, 64, leaves, inputs)
    for quantity, expected in whole.items():
        assert (blocks[quantity] - expected).norm().item() <= 1e-5 * expected.norm().item(), quantity


@pytest.mark.parametrize("name", ["affinity", "crd"])
def test_close_to_the_teacher_the_value_is_as_good_in_float32(arguments, name: str) -> None:
    # Well into training: a divergence of some hundredths of a nat, where entropies are of several nats.
    _, unrelated, _ = arguments(name, 300, 32, 32, torch.float32)
    teacher = Embeddings(unrelated.image_BD, unrelated.text_BD, torch.tensor(14.3))
    noise = torch.randn(2, 300, 32, generator=torch.Generator().manual_seed(5)) * 0.05 / math.sqrt(32)
    sides = (F.normalize(x + n, dim=1) for x, n in zip((teacher.image_BD, teacher.text_BD), noise, strict=True))
    student = Embeddings(*sides, teacher.scale)
    exact = [Embeddings(x.image_BD.double(), x.text_BD.double(), x.scale.double()) for x in (student, teacher)]
    expected = build_loss(name)(*exact).item()
    for chunk_size in (0, 64):
        assert build_loss(name, chunk_size=chunk_size)(student, teacher).item() == pytest.approx(expected, rel=1e-5)


class LargestTensor(TorchDispatchMode):
    """Watches every operation, also of the backward pass, for the largest tensor it makes."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        del types
        outputs = function(*args, **(kwargs or {}))
        for output in outputs if isinstance(outputs, tuple | list) else (outputs,):
            if isinstance(output, Tensor):
                self.numel = max(self.numel, output.numel())
        return outputs


class KeptForBackward(saved_tensors_hooks):
    """Adds up the tensors that the forward pass keeps for the backward pass, each storage once."""

    def __init__(self) -> None:
        self.tensors: dict[int, Tensor] = {}
        super().__init__(self._keep, lambda tensor: tensor)

    def _keep(self, tensor: Tensor) -> Tensor:
        self.tensors[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    @property
    def numel(self) -> int:
        return sum(tensor.untyped_storage().nbytes() // tensor.itemsize for tensor in self.tensors.values())


B, D, CHUNK = 256, 8, 16


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("chunk_size", [0, CHUNK])
def test_no_tensor_is_larger_than_a_matrix_or_a_block_of_rows(arguments, name, options, chunk_size: int) -> None:
    inputs = arguments(name, B, D, D)
    loss = build_loss(name, chunk_size=chunk_size, **options)
    loss(*inputs)  # makes the learned parts
    with LargestTensor() as largest:
        loss(*inputs).backward()
    assert largest.numel <= (CHUNK * B if chunk_size else B * B)
    assert largest.numel >= B * D  # it did watch


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("chunk_size", [1, CHUNK])
def test_blocks_keep_some_embeddings_for_the_backward_pass_and_no_matrix(
    arguments, name, options, chunk_size: int
) -> None:
    kept = KeptForBackward()
    with kept:
        build_loss(name, chunk_size=chunk_size, **options)(*arguments(name, B, D, D))
    assert 0 < kept.numel < 12 * B * D < B * B


@pytest.mark.parametrize("chunk_size", [0, 1, 4, 6, 99])
def test_sums_and_expectations_agree_with_loops(embeddings, brute_force, chunk_size: int) -> None:
    first, second = embeddings(1), embeddings(2, width=5)
    logits = Logits(first.image_BD, first.text_BD, 7.0, chunk_size)
    by_rows = brute_force.log_affinity(first.image_BD, first.text_BD, 7.0)
    by_columns = brute_force.log_affinity(first.text_BD, first.image_BD, 7.0)
    for k, (row_sum, column_sum) in enumerate(zip(*logits.log_sums, strict=True)):
        assert (logits.diagonal_B[k] - row_sum).item() == pytest.approx(by_rows[k][k], rel=1e-12)
        assert (logits.diagonal_B[k] - column_sum).item() == pytest.approx(by_columns[k][k], rel=1e-12)
    assert torch.equal(logits.row_log_sums_B, logits.log_sums[0])

    other = Logits(second.image_BD, second.text_BD, 3.0, chunk_size)
    values = other.matrix_BB.tolist()
    expected = [sum(math.exp(by_rows[k][b]) * values[k][b] for k in range(6) for b in range(6)) / 6]
    expected += [sum(math.exp(by_columns[b][k]) * values[k][b] for k in range(6) for b in range(6)) / 6]
    assert logits.expectation_of(other, both_ways=False).item() == pytest.approx(expected[0], rel=1e-12)
    assert logits.expectation_of(other).item() == pytest.approx(sum(expected), rel=1e-12)


@pytest.mark.parametrize("chunk_size", [0, 4])
@pytest.mark.parametrize("both_ways", [True, False])
def test_entropies_agree_with_loops(embeddings, brute_force, chunk_size: int, both_ways: bool) -> None:
    ours, target = embeddings(1), embeddings(2)
    directions = [("image_BD", "text_BD"), ("text_BD", "image_BD")][: 1 + both_ways]

    def tables(side, scale):
        return [brute_force.log_affinity(getattr(side, a), getattr(side, b), scale) for a, b in directions]

    pairs = list(zip(tables(target, 9.0), tables(ours, 4.0), strict=True))
    sides = [Logits(side.image_BD, side.text_BD, scale, chunk_size) for side, scale in ((target, 9.0), (ours, 4.0))]
    found = cross_entropy(*sides, both_ways=both_ways).item()
    assert found == pytest.approx(sum(brute_force.cross_entropy(*pair) for pair in pairs), rel=1e-12)
    if both_ways:
        divergence = sides[0].divergence_of(sides[1]).item()
        assert divergence == pytest.approx(sum(brute_force.kl(*pair) for pair in pairs), rel=1e-12)
    matched = [sum(-row[k] for k, row in enumerate(table)) / 6 for table in tables(ours, 4.0)]
    expected = sum(matched) / len(matched)
    assert matched_pairs_loss(sides[1], both_ways=both_ways).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("chunk_size", [0, 1, 4])
def test_without_the_diagonal_no_row_sees_its_own_column(embeddings, brute_force, chunk_size: int) -> None:
    side = embeddings(1)
    logits = Logits(side.image_BD, side.image_BD, 50.0, chunk_size)
    table = brute_force.log_affinity(side.image_BD, side.image_BD, 50.0, keep_diagonal=False)
    values = logits.matrix_BB.tolist()
    for k, row_sum in enumerate(logits.without_diagonal().row_log_sums_B.tolist()):
        assert values[k][(k + 1) % 6] - row_sum == pytest.approx(table[k][(k + 1) % 6], rel=1e-10)
    whole = brute_force.log_affinity(side.image_BD, side.image_BD, 50.0)
    for k, row_sum in enumerate(logits.row_log_sums_B.tolist()):  # the original still sees it
        assert values[k][k] - row_sum == pytest.approx(whole[k][k], abs=1e-12)


@pytest.mark.parametrize(("batch_size", "rows"), [(2, 0), (512, 0), (2048, 0), (2049, 512), (32768, 512)])
def test_the_default_is_dense_up_to_2048_pairs_and_blocks_of_512_beyond(batch_size: int, rows: int) -> None:
    assert default_chunk_size(batch_size) == rows
