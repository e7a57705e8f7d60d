"""Autograd functions on the logits scale · first·secondᵀ, in blocks of rows: O(B · C) memory forward and backward.

The backward pass recomputes each block from the embeddings (as gradient checkpointing does) instead of saving a
B × B matrix. Shape letters: B pairs, C rows of a block, D embedding width.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def block_rows(num_rows: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size`` consecutive rows that cover all rows."""
    for start in range(0, num_rows, size):
        yield slice(start, min(start + size, num_rows))


def block_logits(
    first_BD: Tensor, second_BD: Tensor, scale: Tensor | float, rows: slice, keep_diagonal: bool = True
) -> Tensor:
    """The logits of some rows, [C, B]; with ``keep_diagonal`` False, the entries of matched pairs are −∞."""
    logits_CB = (first_BD[rows] @ second_BD.T).mul_(scale)
    return logits_CB if keep_diagonal else hide_diagonal_(logits_CB, rows.start)


def hide_diagonal_(logits_CB: Tensor, first_row: int) -> Tensor:
    """Fill the entries of matched pairs with −∞, in place, so that a softmax gives them probability 0."""
    logits_CB.diagonal(first_row).fill_(-torch.inf)
    return logits_CB


class LogSums(torch.autograd.Function):
    """Log-sum-exp of every row, [B], and of every column, [B] (None unless ``both_ways``).

    These are the log normalizers of the two softmaxes: softmax(row k)[b] = exp(logit[k, b] − rows[k]).
    """

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
                # Streaming softmax: a column is only complete after the last block, so its sum is accumulated in log
                # space. Adding exp(logit) directly would overflow float32 above logits of 88; the scale goes to 100.
                torch.logaddexp(columns_B, logits_CB.logsumexp(0), out=columns_B)
        # Saved: two embedding matrices and two vectors, never a block. The log sums spare the backward pass a second
        # reduction: with them, each entry of a softmax is one exp.
        ctx.save_for_backward(first_BD, second_BD, rows_B, columns_B)
        ctx.scale, ctx.size, ctx.keep_diagonal = scale, size, keep_diagonal
        return rows_B, columns_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_rows_B: Tensor, to_columns_B: Tensor | None) -> tuple[Tensor | None, ...]:
        first_BD, second_BD, rows_B, columns_B = ctx.saved_tensors
        gradients = _LogitsGradient(ctx, first_BD, second_BD, ctx.scale)
        for rows in block_rows(len(first_BD), ctx.size):
            logits_CB = block_logits(first_BD, second_BD, ctx.scale, rows, ctx.keep_diagonal)
            # d logsumexp(row) / d logits = softmax(row); hidden entries are exp(−∞) = 0 and get no gradient.
            to_logits_CB = (logits_CB - rows_B[rows, None]).exp_().mul_(to_rows_B[rows, None])
            if columns_B is not None:
                to_logits_CB.addcmul_(logits_CB.sub_(columns_B).exp_(), to_columns_B)
            gradients.add(rows, to_logits_CB)
        return (*gradients.result(), None, None, None)


def signed(logits_CB: Tensor, first_row: int) -> Tensor:
    """The logits with those of all other than matched pairs negated: z · logit, SigLIP's z = ±1."""
    signs_CB = torch.full_like(logits_CB, -1)
    signs_CB.diagonal(first_row).fill_(1)
    return signs_CB * logits_CB


class SigmoidSum(torch.autograd.Function):
    """Σ_{k,b} −log σ(z · (logit[k, b] + bias)), 0-d, with z = 1 for matched pairs and −1 for all others."""

    @staticmethod
    def forward(
        ctx: Any, first_BD: Tensor, second_BD: Tensor, scale: Tensor | float, bias: Tensor | float, size: int
    ) -> Tensor:
        total = first_BD.new_zeros(())
        for rows in block_rows(len(first_BD), size):
            logits_CB = block_logits(first_BD, second_BD, scale, rows).add_(bias)
            total -= F.logsigmoid(signed(logits_CB, rows.start)).sum()
        ctx.save_for_backward(first_BD, second_BD)
        ctx.scale, ctx.bias, ctx.size = scale, bias, size
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_total: Tensor) -> tuple[Tensor | None, ...]:
        first_BD, second_BD = ctx.saved_tensors
        gradients = _LogitsGradient(ctx, first_BD, second_BD, ctx.scale)
        to_bias = first_BD.new_zeros(())
        for rows in block_rows(len(first_BD), ctx.size):
            # d −log σ(z·x) / dx = σ(x) for unmatched pairs, and σ(x) − 1 for matched ones.
            to_logits_CB = block_logits(first_BD, second_BD, ctx.scale, rows).add_(ctx.bias).sigmoid_()
            to_logits_CB.diagonal(rows.start).sub_(1)
            to_bias += to_logits_CB.mul_(to_total).sum()
            gradients.add(rows, to_logits_CB)
        return (*gradients.result(), to_bias if ctx.needs_input_grad[3] else None, None)


class WeightedCosines(torch.autograd.Function):
    """Σ_{k,b} w[k, b] · first[k]·second[b], 0-d, for constant weights w that arrive in blocks of rows.

    The sum is linear in each argument: its gradients are W·second and Wᵀ·first, which the forward pass computes anyway.
    Saving these two [B, D] matrices avoids a second pass over the blocks.
    """

    @staticmethod
    def forward(ctx: Any, first_BD: Tensor, second_BD: Tensor, blocks: Iterable[tuple[slice, Tensor]]) -> Tensor:
        weighted_BD = torch.empty_like(first_BD)
        for_second_BD = torch.zeros_like(second_BD) if ctx.needs_input_grad[1] else None
        for rows, weights_CB in blocks:
            torch.mm(weights_CB, second_BD, out=weighted_BD[rows])  # written in place: no list of pieces to concatenate
            if for_second_BD is not None:  # None where the second side is a frozen teacher: saves one matrix product
                for_second_BD.addmm_(weights_CB.T, first_BD[rows])
        ctx.save_for_backward(weighted_BD, for_second_BD)
        return (first_BD * weighted_BD).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weighted_BD, for_second_BD = ctx.saved_tensors
        return gradient * weighted_BD, None if for_second_BD is None else gradient * for_second_BD, None


class SoftmaxWeightedSum(torch.autograd.Function):
    """Softmax-weighted sums of the embeddings, W·second and Wᵀ·first, [B, D] each, from known log-sum-exps.

    W is the mean of the softmaxes over rows and over columns; with ``per_direction``, the row softmax and the column
    softmax separately. Returns W·second for each W, then Wᵀ·first for each W.
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
        per_direction: bool,
    ) -> tuple[Tensor, ...]:
        count = 2 if per_direction else 1
        to_first = [torch.empty_like(first_BD) for _ in range(count)]
        to_second = [torch.zeros_like(second_BD) for _ in range(count)]
        for rows in block_rows(len(first_BD), size):
            logits_CB = block_logits(first_BD, second_BD, scale, rows)
            for weights_CB, for_first_BD, for_second_BD in zip(
                _weights(logits_CB, rows_B[rows], columns_B, per_direction), to_first, to_second, strict=True
            ):
                torch.mm(weights_CB, second_BD, out=for_first_BD[rows])
                for_second_BD.addmm_(weights_CB.T, first_BD[rows])
        # The outputs are not saved: the gradient of a softmax-weighted sum needs W, which is cheaper to recompute.
        ctx.save_for_backward(first_BD, second_BD, rows_B, columns_B)
        ctx.scale, ctx.size, ctx.per_direction = scale, size, per_direction
        return (*to_first, *to_second)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        first_BD, second_BD, rows_B, columns_B = ctx.saved_tensors
        half = len(outputs) // 2
        gradients = _LogitsGradient(ctx, first_BD, second_BD, ctx.scale)
        to_rows_B, to_columns_B = torch.empty_like(rows_B), torch.zeros_like(columns_B)
        for rows in block_rows(len(first_BD), ctx.size):
            logits_CB = block_logits(first_BD, second_BD, ctx.scale, rows)
            softmaxes = _weights(logits_CB, rows_B[rows], columns_B, per_direction=True)
            weights = softmaxes if ctx.per_direction else [(softmaxes[0] + softmaxes[1]).div_(2)]
            to_weights = []
            for weights_CB, at_first_BD, at_second_BD in zip(weights, outputs[:half], outputs[half:], strict=True):
                # The embeddings enter twice: as the summands (these two lines) and through the weights W (below).
                gradients.to_second_BD.addmm_(weights_CB.T, at_first_BD[rows])
                gradients.to_first_BD[rows] += weights_CB @ at_second_BD
                to_weights.append((at_first_BD[rows] @ second_BD.T).addmm_(first_BD[rows], at_second_BD.T))
            if not ctx.per_direction:  # W is the mean of both softmaxes: each receives half of its gradient
                to_weights = [to_weights[0].div_(2)] * 2
            # W = exp(logits − log sum), so dW = W · (d logits − d log sum). The log sums are inputs of this function:
            # LogSums propagates their gradient further, which completes the softmax gradient.
            by_row_CB, by_column_CB = (w_CB.mul_(to_CB) for w_CB, to_CB in zip(softmaxes, to_weights, strict=True))
            to_rows_B[rows] = -by_row_CB.sum(1)
            to_columns_B -= by_column_CB.sum(0)
            gradients.add(rows, by_row_CB.add_(by_column_CB))
        return (*gradients.result(), to_rows_B, to_columns_B, None, None)


def _weights(logits_CB: Tensor, rows_C: Tensor, columns_B: Tensor, per_direction: bool) -> list[Tensor]:
    """The softmaxes over rows and over columns, [C, B], or their mean; overwrites the logits."""
    by_row_CB = (logits_CB - rows_C[:, None]).exp_()
    by_column_CB = logits_CB.sub_(columns_B).exp_()
    return [by_row_CB, by_column_CB] if per_direction else [by_row_CB.add_(by_column_CB).div_(2)]


class _LogitsGradient:
    """Accumulates the gradients of ``first``, ``second`` and the scale from gradients of blocks of logits."""

    def __init__(self, ctx: Any, first_BD: Tensor, second_BD: Tensor, scale: Tensor | float) -> None:
        self._needs = ctx.needs_input_grad[:3]
        self._first_BD, self._second_BD, self._scale = first_BD, second_BD, scale
        self.to_first_BD, self.to_second_BD = torch.zeros_like(first_BD), torch.zeros_like(second_BD)
        self._to_scale = first_BD.new_zeros(())

    def add(self, rows: slice, to_logits_CB: Tensor) -> None:
        """Add the contribution of one block; overwrites ``to_logits_CB``."""
        weighted_CD = to_logits_CB @ self._second_BD
        # d(scale · f·s)/d scale = f·s, summed without forming the cosines again.
        self._to_scale += (self._first_BD[rows] * weighted_CD).sum()
        self.to_first_BD[rows] += weighted_CD.mul_(self._scale)
        if self._needs[1]:
            self.to_second_BD.addmm_(to_logits_CB.mul_(self._scale).T, self._first_BD[rows])

    def result(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients of first, second and scale; None where autograd does not need one."""
        gradients = (self.to_first_BD, self.to_second_BD, self._to_scale)
        first, second, scale = (g if wanted else None for g, wanted in zip(gradients, self._needs, strict=True))
        return first, second, scale
