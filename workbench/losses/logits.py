"""Logits (scaled cosines of B rows with B columns) and the reductions that losses need, dense or in blocks of rows.

Every loss on B × B pairs is made of five reductions: the diagonal, the log-sum-exp of the rows, that of the columns,
the expectation of one matrix under the softmax of another, and the sum of log-sigmoids. Each can be computed from a few
rows at a time, so that large batches fit in memory (:mod:`workbench.losses.blocks`).
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.losses.blocks import (
    LogSums,
    SigmoidSum,
    SoftmaxWeightedSum,
    WeightedCosines,
    block_logits,
    block_rows,
    hide_diagonal_,
    signed,
)

# Dense up to this batch size: a float32 matrix takes 16 MB, and several losses together save about twenty of them.
MAX_DENSE_BATCH = 2048
BLOCK_ROWS = 512  # of a larger batch


def checked_chunk_size(chunk_size: int) -> int:
    """``chunk_size``, validated.

    Raises:
        ValueError: ``chunk_size`` is not an integer of at least 0.
    """
    if type(chunk_size) is not int or chunk_size < 0:
        raise ValueError(f"chunk_size is a number of rows, or 0 for all of them (got {chunk_size!r})")
    return chunk_size


def default_chunk_size(batch_size: int) -> int:
    """Rows per block for a batch of this size: 0 (dense) up to 2,048 pairs, 512 above."""
    return 0 if batch_size <= MAX_DENSE_BATCH else BLOCK_ROWS


class Logits:
    """The matrix scale · first·secondᵀ, [B, B], computed lazily and each reduction at most once.

    Args:
        first_BD, second_BD: unit-length rows.
        scale: positive, a 0-d tensor or a number.
        chunk_size: rows per block; 0 keeps the dense matrix, which all reductions then share.
        cosines_BB: first·secondᵀ, if already computed.
        keep_diagonal: False excludes matched pairs from the softmaxes.
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
        self._chunk_size = chunk_size if chunk_size < len(first_BD) else 0  # a single block is the dense matrix
        self._cosines_BB = cosines_BB
        self._keep_diagonal = keep_diagonal

    def __len__(self) -> int:
        return len(self.first_BD)

    def without_diagonal(self) -> "Logits":
        """The same matrix with matched pairs excluded from the softmaxes."""
        arguments = (self.first_BD, self.second_BD, self.scale, self._chunk_size, self._cosines_BB)
        return Logits(*arguments, keep_diagonal=False)

    def constant(self) -> "Logits":
        """The same matrix without gradient, as the target of another."""
        # Not this object under no_grad: its cached reductions would have no gradient for the losses that share it.
        scale = self.scale.detach() if isinstance(self.scale, Tensor) else self.scale
        cosines_BB = None if self._cosines_BB is None else self._cosines_BB.detach()
        arguments = (self.first_BD.detach(), self.second_BD.detach(), scale, self._chunk_size, cosines_BB)
        return Logits(*arguments, keep_diagonal=self._keep_diagonal)

    @cached_property
    def matrix_BB(self) -> Tensor:
        """The dense matrix, whatever the chunk size: O(B²) memory."""
        cosines_BB = self.first_BD @ self.second_BD.T if self._cosines_BB is None else self._cosines_BB
        return self.scale * cosines_BB

    @property
    def matched_probabilities(self) -> tuple[Tensor, Tensor]:
        """The probability of each matched pair in its row's and in its column's softmax, [B] each."""
        rows_B, columns_B = self.log_sums
        return (self.diagonal_B - rows_B).exp(), (self.diagonal_B - columns_B).exp()

    @property
    def diagonal_B(self) -> Tensor:
        """The logits of matched pairs, [B]."""
        # From the rows, not from the matrix: O(B · D), and the same with and without blocks.
        return self.scale * (self.first_BD * self.second_BD).sum(1)

    @cached_property
    def row_log_sums_B(self) -> Tensor:
        """Log-sum-exp of every row, [B]."""
        return self._log_sums(both_ways=False)[0] if self._chunk_size else self._softmax_input_BB.logsumexp(1)

    @cached_property
    def log_sums(self) -> tuple[Tensor, Tensor]:
        """Log-sum-exp of every row and of every column, [B] each, in one pass over the blocks."""
        if self._chunk_size:
            return self._log_sums(both_ways=True)
        return self._softmax_input_BB.logsumexp(1), self._softmax_input_BB.logsumexp(0)

    def softmax_weighted_sums(self, *, per_direction: bool = False) -> list[Tensor]:
        """Softmax-weighted sums of the embeddings: [W·second, Wᵀ·first], [B, D] each.

        W is the mean of the row softmax and the column softmax. With ``per_direction``, both are used separately:
        [W_rows·second, W_columns·second, W_rowsᵀ·first, W_columnsᵀ·first].
        """
        rows_B, columns_B = self.log_sums
        if self._chunk_size:
            return list(self._apply(SoftmaxWeightedSum, rows_B, columns_B, self._chunk_size, per_direction))
        by_row_BB, by_column_BB = (self.matrix_BB - rows_B[:, None]).exp(), (self.matrix_BB - columns_B).exp()
        weights = [by_row_BB, by_column_BB] if per_direction else [(by_row_BB + by_column_BB) / 2]
        return [w_BB @ self.second_BD for w_BB in weights] + [w_BB.T @ self.first_BD for w_BB in weights]

    def expectation_of(self, student: "Logits", *, both_ways: bool = True) -> Tensor:
        """mean_k Σ_b p[k, b] · student[k, b], with p the row softmax of this matrix; plus the same for columns.

        p is a constant (stop-gradient). With ``both_ways`` False, rows only.
        """
        if not self._chunk_size:
            weights_BB = self._softmaxes(self.matrix_BB.detach(), slice(0, len(self)), both_ways)
            return (weights_BB * student.matrix_BB).sum() / len(self)
        blocks = ((rows, self._softmaxes(self._block(rows), rows, both_ways)) for rows in self._rows())
        # The generator is consumed in forward only: block weights are constants and need not exist in backward.
        cosines: Tensor = WeightedCosines.apply(student.first_BD, student.second_BD, blocks)
        return student.scale * cosines / len(self)

    def divergence_of(self, student: "Logits") -> Tensor:
        """mean_k KL(softmax(row k) ‖ softmax(student row k)), in nats, plus the same for columns.

        This matrix is a constant target (stop-gradient).
        """
        if not self._chunk_size:
            with torch.no_grad():  # the target is a constant
                target = self.matrix_BB, *self.log_sums
            return _divergence(target, (student.matrix_BB, *student.log_sums)) / len(self)
        (rows_B, columns_B), (student_rows_B, student_columns_B) = self.log_sums, student.log_sums
        # The value is summed entry by entry: cross-entropy minus entropy are two large numbers whose difference loses
        # a small KL to rounding in float32.
        value = self.first_BD.new_zeros(())
        with torch.no_grad():
            for rows in self._rows():
                target = self._block(rows), rows_B[rows], columns_B
                block = student._block(rows), student_rows_B[rows], student_columns_B
                value += _divergence(target, block) / len(self)
        # Its gradient is that of the cross-entropy, which has an O(B · C) backward. carrier − carrier.detach() is 0 in
        # value and has that gradient.
        carrier = (student_rows_B + student_columns_B).mean() - self.expectation_of(student)
        return value + (carrier - carrier.detach())

    def sigmoid_loss(self, bias: Tensor | float) -> Tensor:
        """mean_k Σ_b −log σ(z · (logit[k, b] + bias)), with z = 1 for matched pairs and −1 for all others (SigLIP)."""
        if self._chunk_size:
            total: Tensor = SigmoidSum.apply(self.first_BD, self.second_BD, self.scale, bias, self._chunk_size)
        else:
            total = -F.logsigmoid(signed(self.matrix_BB + bias, 0)).sum()
        return total / len(self)

    @torch.no_grad()
    def _softmaxes(self, logits_CB: Tensor, rows: slice, both_ways: bool) -> Tensor:
        """The row softmax of some rows, [C, B]; with ``both_ways``, plus the column softmax of the same entries."""
        if both_ways:
            rows_B, columns_B = self.log_sums
            weights_CB = (logits_CB - rows_B[rows, None]).exp_().add_((logits_CB - columns_B).exp_())
        else:
            weights_CB = (logits_CB - self.row_log_sums_B[rows, None]).exp_()
        if not self._keep_diagonal:
            weights_CB.diagonal(rows.start).zero_()
        return weights_CB

    @cached_property
    def _softmax_input_BB(self) -> Tensor:
        """The dense matrix, with −∞ on the diagonal where matched pairs are excluded."""
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


class MeanTarget:
    """The weighted mean of several teachers' softmaxes, as a constant target.

    Args:
        logits: of each teacher.
        weights: that sum to 1.
    """

    def __init__(self, logits: Sequence[Logits], weights: Sequence[float]) -> None:
        self._logits, self._weights = logits, weights

    def without_diagonal(self) -> "MeanTarget":
        """As :meth:`Logits.without_diagonal`."""
        return MeanTarget([one.without_diagonal() for one in self._logits], self._weights)

    @property
    def matched_probabilities(self) -> tuple[Tensor, Tensor]:
        """As :attr:`Logits.matched_probabilities`."""
        rows, columns = zip(*(one.matched_probabilities for one in self._logits), strict=True)
        return self._mean(rows), self._mean(columns)

    def expectation_of(self, student: Logits, *, both_ways: bool = True) -> Tensor:
        """As :meth:`Logits.expectation_of`, which is linear in the softmax."""
        return self._mean([one.expectation_of(student, both_ways=both_ways) for one in self._logits])

    def divergence_of(self, student: Logits) -> Tensor:
        """The mean of the teachers' divergences (:meth:`Logits.divergence_of`).

        It exceeds the divergence of the mean softmax by a constant, and has the same gradient.
        """
        return self._mean([one.divergence_of(student) for one in self._logits])

    def _mean(self, values: Sequence[Tensor]) -> Tensor:
        return torch.stack([weight * value for weight, value in zip(self._weights, values, strict=True)]).sum(0)


def _divergence(target: tuple[Tensor, Tensor, Tensor], student: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Σ over C rows of the KL of rows and of columns; both arguments are (logits_CB, row and column log sums)."""
    (target_CB, rows_C, columns_B), (student_CB, student_rows_C, student_columns_B) = target, student
    by_row_CB, by_column_CB = target_CB - rows_C[:, None], target_CB - columns_B
    over_rows = by_row_CB.exp() * (by_row_CB - (student_CB - student_rows_C[:, None]))
    return (over_rows + by_column_CB.exp() * (by_column_CB - (student_CB - student_columns_B))).sum()


def matched_pairs_loss(logits: Logits, *, both_ways: bool = True) -> Tensor:
    """InfoNCE: mean_k −log softmax(row k)[k], in nats.

    With ``both_ways``, the average over rows and columns: CLIP's symmetric loss.
    """
    if not both_ways:
        return (logits.row_log_sums_B - logits.diagonal_B).mean()
    rows_B, columns_B = logits.log_sums
    return ((rows_B + columns_B) / 2 - logits.diagonal_B).mean()


def cross_entropy(target: Logits | MeanTarget, student: Logits, *, both_ways: bool = True) -> Tensor:
    """mean_k H(softmax(target row k), softmax(student row k)), in nats; ``both_ways`` adds that of the columns."""
    log_sums_B = student.log_sums[0] + student.log_sums[1] if both_ways else student.row_log_sums_B
    return log_sums_B.mean() - target.expectation_of(student, both_ways=both_ways)
