"""What losses ask of scale · first·secondᵀ in blocks of rows: O(B · block) memory forward and backward.

Blocks are computed again in the backward pass instead of kept, and every result is written in its place, so that the
memory is a few blocks' and a few embeddings', whatever the number of blocks. Shape letters: C rows of a block.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def block_rows(num_rows: int, size: int) -> Iterator[slice]:
    """The rows of each block in turn."""
    for start in range(0, num_rows, size):
        yield slice(start, min(start + size, num_rows))


def block_logits(
    first_BD: Tensor, second_BD: Tensor, scale: Tensor | float, rows: slice, keep_diagonal: bool = True
) -> Tensor:
    """Some rows of the matrix, [C, B]; without the diagonal a row's own column is −∞."""
    logits_CB = (first_BD[rows] @ second_BD.T).mul_(scale)
    return logits_CB if keep_diagonal else hide_diagonal_(logits_CB, rows.start)


def hide_diagonal_(logits_CB: Tensor, first_row: int) -> Tensor:
    """Put −∞ where a row meets its own column."""
    logits_CB.diagonal(first_row).fill_(-torch.inf)
    return logits_CB


class LogSums(torch.autograd.Function):
    """log Σ_b exp(logit[k, b]) for every row k and, with ``both_ways``, for every column (None otherwise)."""

    @staticmethod
    def forward(
        ctx: Any,
        first_BD: Tensor,
        second_BD: Tensor,
        scale: Tensor | float,
        size: int,
        both_ways: bool,
        keep_diagonal: bool,
    ) -> tuple[Tensor, Tensor | None]:
        rows_B = first_BD.new_empty(len(first_BD))
        columns_B = torch.full_like(rows_B, -torch.inf) if both_ways else None
        for rows in block_rows(len(first_BD), size):
            logits_CB = block_logits(first_BD, second_BD, scale, rows, keep_diagonal)
            torch.logsumexp(logits_CB, 1, out=rows_B[rows])
            if columns_B is not None:
                torch.logaddexp(columns_B, logits_CB.logsumexp(0), out=columns_B)
        ctx.save_for_backward(first_BD, second_BD, rows_B, columns_B)
        ctx.scale, ctx.size, ctx.keep_diagonal = scale, size, keep_diagonal
        return rows_B, columns_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_rows_B: Tensor, to_columns_B: Tensor | None) -> tuple[Tensor | None, ...]:
        first_BD, second_BD, rows_B, columns_B = ctx.saved_tensors
        gradients = _ToLogits(ctx, first_BD, second_BD, ctx.scale)
        for rows in block_rows(len(first_BD), ctx.size):
            logits_CB = block_logits(first_BD, second_BD, ctx.scale, rows, ctx.keep_diagonal)
            to_logits_CB = (logits_CB - rows_B[rows, None]).exp_().mul_(to_rows_B[rows, None])
            if columns_B is not None:
                to_logits_CB.addcmul_(logits_CB.sub_(columns_B).exp_(), to_columns_B)
            gradients.add(rows, to_logits_CB)
        return (*gradients.found(), None, None, None)


class WeightedCosines(torch.autograd.Function):
    """Σ_{k,b} w[k, b] · first[k]·second[b] for constant weights that come in blocks of rows.

    The sum is linear in either argument, so its gradients are the arguments weighted, and found on the way.
    """

    @staticmethod
    def forward(ctx: Any, first_BD: Tensor, second_BD: Tensor, blocks: Iterable[tuple[slice, Tensor]]) -> Tensor:
        weighted_BD = torch.empty_like(first_BD)
        pushed_BD = torch.zeros_like(second_BD) if ctx.needs_input_grad[1] else None
        for rows, weights_CB in blocks:
            torch.mm(weights_CB, second_BD, out=weighted_BD[rows])
            if pushed_BD is not None:
                pushed_BD.addmm_(weights_CB.T, first_BD[rows])
        ctx.save_for_backward(weighted_BD, pushed_BD)
        return (first_BD * weighted_BD).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weighted_BD, pushed_BD = ctx.saved_tensors
        return gradient * weighted_BD, None if pushed_BD is None else gradient * pushed_BD, None


class SoftmaxWeightedSum(torch.autograd.Function):
    """W·second and Wᵀ·first for the softmaxes W of a matrix whose ``log_sums`` are known.

    W is the mean of the softmaxes over rows and over columns; or, with ``apart``, first the one and then the other.
    Returns W·second for each W, then Wᵀ·first for each.
    """

    @staticmethod
    def forward(
        ctx: Any,
        first_BD: Tensor,
        second_BD: Tensor,
        scale: Tensor | float,
        rows_B: Tensor,
        columns_B: Tensor,
        size: int,
        apart: bool,
    ) -> tuple[Tensor, ...]:
        count = 2 if apart else 1
        to_first = [torch.empty_like(first_BD) for _ in range(count)]
        to_second = [torch.zeros_like(second_BD) for _ in range(count)]
        for rows in block_rows(len(first_BD), size):
            logits_CB = block_logits(first_BD, second_BD, scale, rows)
            for weights_CB, softmax_weighted_sums, pushed in zip(
                _weights(logits_CB, rows_B[rows], columns_B, apart), to_first, to_second, strict=True
            ):
                torch.mm(weights_CB, second_BD, out=softmax_weighted_sums[rows])
                pushed.addmm_(weights_CB.T, first_BD[rows])
        ctx.save_for_backward(first_BD, second_BD, rows_B, columns_B)
        ctx.scale, ctx.size, ctx.apart = scale, size, apart
        return (*to_first, *to_second)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        first_BD, second_BD, rows_B, columns_B = ctx.saved_tensors
        half = len(outputs) // 2
        gradients = _ToLogits(ctx, first_BD, second_BD, ctx.scale)
        to_rows_B, to_columns_B = torch.empty_like(rows_B), torch.zeros_like(columns_B)
        for rows in block_rows(len(first_BD), ctx.size):
            logits_CB = block_logits(first_BD, second_BD, ctx.scale, rows)
            softmaxes = _weights(logits_CB, rows_B[rows], columns_B, apart=True)
            weights = softmaxes if ctx.apart else [(softmaxes[0] + softmaxes[1]).div_(2)]
            to_weights = []
            for weights_CB, at_first_BD, at_second_BD in zip(weights, outputs[:half], outputs[half:], strict=True):
                gradients.to_second_BD.addmm_(weights_CB.T, at_first_BD[rows])
                gradients.to_first_BD[rows] += weights_CB @ at_second_BD
                to_weights.append((at_first_BD[rows] @ second_BD.T).addmm_(first_BD[rows], at_second_BD.T))
            if not ctx.apart:
                to_weights = [to_weights[0].div_(2)] * 2
            by_row_CB, by_column_CB = (w_CB.mul_(to_CB) for w_CB, to_CB in zip(softmaxes, to_weights, strict=True))
            to_rows_B[rows] = -by_row_CB.sum(1)
            to_columns_B -= by_column_CB.sum(0)
            gradients.add(rows, by_row_CB.add_(by_column_CB))
        return (*gradients.found(), to_rows_B, to_columns_B, None, None)


def _weights(logits_CB: Tensor, rows_C: Tensor, columns_B: Tensor, apart: bool) -> list[Tensor]:
    """The softmaxes over rows and over columns, or their mean; the logits are used up."""
    by_row_CB = (logits_CB - rows_C[:, None]).exp_()
    by_column_CB = logits_CB.sub_(columns_B).exp_()
    return [by_row_CB, by_column_CB] if apart else [by_row_CB.add_(by_column_CB).div_(2)]


class _ToLogits:
    """Carries gradients from blocks of logits to the rows, the columns and the scale they are made of."""

    def __init__(self, ctx: Any, first_BD: Tensor, second_BD: Tensor, scale: Tensor | float) -> None:
        self._needs = ctx.needs_input_grad[:3]
        self._first_BD, self._second_BD, self._scale = first_BD, second_BD, scale
        self.to_first_BD, self.to_second_BD = torch.zeros_like(first_BD), torch.zeros_like(second_BD)
        self._to_scale = first_BD.new_zeros(())

    def add(self, rows: slice, to_logits_CB: Tensor) -> None:
        """One block's gradient with respect to its logits."""
        weighted_CD = to_logits_CB @ self._second_BD
        self._to_scale += (self._first_BD[rows] * weighted_CD).sum()
        self.to_first_BD[rows] += weighted_CD.mul_(self._scale)
        if self._needs[1]:
            self.to_second_BD.addmm_(to_logits_CB.mul_(self._scale).T, self._first_BD[rows])

    def found(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients of first, second and scale, where they are wanted."""
        all_three = (self.to_first_BD, self.to_second_BD, self._to_scale)
        first, second, scale = (g if wanted else None for g, wanted in zip(all_three, self._needs, strict=True))
        return first, second, scale
