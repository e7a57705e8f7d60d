"""Scaled cosines of B rows with B columns, and the few things that losses ask of them, whole or in blocks of rows.

Every loss that compares B × B pairs is made of four of them: the diagonal, the logarithms of the softmax's sums over
rows and over columns, and the expectation of one matrix under the softmax of another. None needs more of a B × B matrix
at once than some of its rows, so a batch of any size fits: blocks are computed again in the backward pass, not kept.
"""

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from workbench.losses.blocks import (
    LogSums,
    SoftmaxWeightedSum,
    WeightedCosines,
    block_logits,
    block_rows,
    hide_diagonal_,
)

LARGEST_WHOLE = 2048  # pairs; a float32 matrix of these is 16 MB, and a mixture of losses keeps about twenty
BLOCK_ROWS = 512


def checked_chunk_size(chunk_size: int) -> int:
    """The chunk size itself.

    Raises:
        ValueError: it is no number of rows.
    """
    if type(chunk_size) is not int or chunk_size < 0:
        raise ValueError(f"chunk_size is a number of rows, or 0 for all of them (got {chunk_size!r})")
    return chunk_size


def default_chunk_size(batch_size: int) -> int:
    """Rows held at once for a batch of this size: 0 (all) up to 2,048 pairs, blocks of 512 beyond."""
    return 0 if batch_size <= LARGEST_WHOLE else BLOCK_ROWS


class Logits:
    """The matrix scale · first·secondᵀ, [B, B].

    Args:
        first_BD, second_BD: unit-length rows.
        scale: positive, 0-d or a number.
        chunk_size: rows held at once; 0 holds the whole matrix, and what is computed from it shares it.
        cosines_BB: first·secondᵀ, where somebody has it already.
        keep_diagonal: False leaves every row's own column out of its softmax.
    """

    def __init__(
        self,
        first_BD: Tensor,
        second_BD: Tensor,
        scale: Tensor | float,
        chunk_size: int = 0,
        cosines_BB: Tensor | None = None,
        keep_diagonal: bool = True,
    ) -> None:
        self.first_BD, self.second_BD, self.scale = first_BD, second_BD, scale
        self._chunk_size = chunk_size if chunk_size < len(first_BD) else 0
        self._cosines_BB = cosines_BB
        self._keep_diagonal = keep_diagonal

    def __len__(self) -> int:
        return len(self.first_BD)

    def without_diagonal(self) -> "Logits":
        """The same matrix, of which no row's softmax sees its own column."""
        whole = (self.first_BD, self.second_BD, self.scale, self._chunk_size, self._cosines_BB)
        return Logits(*whole, keep_diagonal=False)

    @cached_property
    def matrix_BB(self) -> Tensor:
        """The whole matrix, whatever the chunk size: O(B²) memory."""
        cosines_BB = self.first_BD @ self.second_BD.T if self._cosines_BB is None else self._cosines_BB
        return self.scale * cosines_BB

    @property
    def diagonal_B(self) -> Tensor:
        """The logits of matched pairs."""
        return self.scale * (self.first_BD * self.second_BD).sum(1)

    @cached_property
    def row_log_sums_B(self) -> Tensor:
        """log Σ_b exp(logit[k, b]) for every row k."""
        return self._log_sums(both_ways=False)[0] if self._chunk_size else self._visible_BB.logsumexp(1)

    @cached_property
    def log_sums(self) -> tuple[Tensor, Tensor]:
        """:attr:`row_log_sums_B`, and the same for every column: both softmaxes in one pass."""
        if self._chunk_size:
            return self._log_sums(both_ways=True)
        return self._visible_BB.logsumexp(1), self._visible_BB.logsumexp(0)

    def softmax_weighted_sums(self, *, apart: bool = False) -> list[Tensor]:
        """W·second, then Wᵀ·first, [B, D] each, for the mean W of the softmaxes over rows and over columns.

        With ``apart``: for the one and for the other, so W₁·second, W₂·second, W₁ᵀ·first, W₂ᵀ·first.
        """
        rows_B, columns_B = self.log_sums
        if self._chunk_size:
            return list(self._apply(SoftmaxWeightedSum, rows_B, columns_B, self._chunk_size, apart))
        by_row_BB, by_column_BB = (self.matrix_BB - rows_B[:, None]).exp(), (self.matrix_BB - columns_B).exp()
        weights = [by_row_BB, by_column_BB] if apart else [(by_row_BB + by_column_BB) / 2]
        return [w_BB @ self.second_BD for w_BB in weights] + [w_BB.T @ self.first_BD for w_BB in weights]

    def expectation_of(self, ours: "Logits", *, both_ways: bool = True) -> Tensor:
        """mean_k Σ_b p[k, b] · ours[k, b], p this matrix's softmax over rows, and the same over columns added.

        The softmax is a constant: no gradient reaches this matrix. With ``both_ways`` False, rows only.
        """
        if not self._chunk_size:
            weights_BB = self._softmaxes(self.matrix_BB.detach(), slice(0, len(self)), both_ways)
            return (weights_BB * ours.matrix_BB).sum() / len(self)
        blocks = ((rows, self._softmaxes(self._block(rows), rows, both_ways)) for rows in self._rows())
        cosines: Tensor = WeightedCosines.apply(ours.first_BD, ours.second_BD, blocks)
        return ours.scale * cosines / len(self)

    def divergence_of(self, ours: "Logits") -> Tensor:
        """mean_k KL(p[k] ‖ ours[k]) of the softmaxes over rows, and the same over columns added.

        Summed entry by entry: as a difference of two large expectations, float32 would lose a small divergence.
        No gradient reaches this matrix.
        """
        if not self._chunk_size:
            with torch.no_grad():
                target = self.matrix_BB, *self.log_sums
            return _divergence(target, (ours.matrix_BB, *ours.log_sums)) / len(self)
        (rows_B, columns_B), (our_rows_B, our_columns_B) = self.log_sums, ours.log_sums
        value = self.first_BD.new_zeros(())
        with torch.no_grad():
            for rows in self._rows():
                target = self._block(rows), rows_B[rows], columns_B
                value += _divergence(target, (ours._block(rows), our_rows_B[rows], our_columns_B)) / len(self)
        carrier = (our_rows_B + our_columns_B).mean() - self.expectation_of(ours)
        return value + (carrier - carrier.detach())  # the value as summed, with the gradient of what it differs by

    @torch.no_grad()
    def _softmaxes(self, logits_CB: Tensor, rows: slice, both_ways: bool) -> Tensor:
        if both_ways:
            rows_B, columns_B = self.log_sums
            weights_CB = (logits_CB - rows_B[rows, None]).exp_().add_((logits_CB - columns_B).exp_())
        else:
            weights_CB = (logits_CB - self.row_log_sums_B[rows, None]).exp_()
        if not self._keep_diagonal:
            weights_CB.diagonal(rows.start).zero_()
        return weights_CB

    @cached_property
    def _visible_BB(self) -> Tensor:
        """The matrix as its softmaxes see it."""
        return self.matrix_BB if self._keep_diagonal else hide_diagonal_(self.matrix_BB.clone(), 0)

    def _log_sums(self, *, both_ways: bool) -> tuple[Tensor, Tensor]:
        rows_B, columns_B = self._apply(LogSums, self._chunk_size, both_ways, self._keep_diagonal)
        return rows_B, columns_B

    def _apply(self, function: type[torch.autograd.Function], *arguments: object) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = function.apply(self.first_BD, self.second_BD, self.scale, *arguments)
        return found

    def _block(self, rows: slice) -> Tensor:
        return block_logits(self.first_BD, self.second_BD, self.scale, rows)

    def _rows(self) -> Iterator[slice]:
        return block_rows(len(self), self._chunk_size)


def _divergence(target: tuple[Tensor, Tensor, Tensor], ours: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Σ over C rows of the divergences of rows and columns, from (logits_CB, their row and their column log sums)."""
    (target_CB, rows_C, columns_B), (our_CB, our_rows_C, our_columns_B) = target, ours
    by_row_CB, by_column_CB = target_CB - rows_C[:, None], target_CB - columns_B
    over_rows = by_row_CB.exp() * (by_row_CB - (our_CB - our_rows_C[:, None]))
    return (over_rows + by_column_CB.exp() * (by_column_CB - (our_CB - our_columns_B))).sum()


def matched_pairs_loss(logits: Logits, *, both_ways: bool = True) -> Tensor:
    """mean_k −log softmax(row k)[k], in nats: every row should pick its own column.

    With ``both_ways``, averaged with every column picking its own row: CLIP's loss.
    """
    if not both_ways:
        return (logits.row_log_sums_B - logits.diagonal_B).mean()
    rows_B, columns_B = logits.log_sums
    return ((rows_B + columns_B) / 2 - logits.diagonal_B).mean()


def cross_entropy(target: Logits, ours: Logits, *, both_ways: bool = True) -> Tensor:
    """mean_k H(softmax(target row k), softmax(our row k)), in nats; with ``both_ways``, the columns' is added."""
    log_sums_B = ours.log_sums[0] + ours.log_sums[1] if both_ways else ours.row_log_sums_B
    return log_sums_B.mean() - target.expectation_of(ours, both_ways=both_ways)
