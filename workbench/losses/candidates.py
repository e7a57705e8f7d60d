"""The teacher's embeddings of every training pair as candidates of a softmax, compared in blocks of candidates.

Candidates are constants, so that the gradient takes one more pass over them and O(B · C) memory, whatever their number.
Shape letters: B anchors, one a pair of the batch; C candidates of a block; P known matches; D embedding width.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from workbench.embeddings import Modality

Block = tuple[Tensor, Tensor]  # numbers of training pairs, ascending, [C], and their embeddings, [C, D]
Matches = tuple[Tensor, Tensor]  # rows of the batch and numbers of training pairs, [P] each


@dataclass(frozen=True)
class Candidates:
    """The teacher's captions or images of all training pairs, for the anchors of one batch.

    Attributes:
        blocks: the candidates of a modality, block by block; called once or twice for every use.
        matches: the candidates of a modality that are known to match an anchor of the other, its own pair included.
    """

    blocks: Callable[[Modality], Iterator[Block]]
    matches: Mapping[Modality, Matches]

    def of_rows(self, rows: Tensor, num_rows: int) -> "Candidates":
        """The same candidates for some of the ``num_rows`` pairs of the batch, in the order of ``rows``, int64."""
        position = torch.full((num_rows,), -1, dtype=torch.int64, device=rows.device)
        position[rows] = torch.arange(len(rows), device=rows.device)
        matches: dict[Modality, Matches] = {}
        for modality, (rows_P, pairs_P) in self.matches.items():
            is_kept_P = position[rows_P] >= 0
            matches[modality] = position[rows_P][is_kept_P], pairs_P[is_kept_P]
        return Candidates(self.blocks, matches)

    def info_nce(self, anchor_BD: Tensor, own_BD: Tensor, scale: Tensor | float, modality: Modality) -> Tensor:
        """mean_k −log softmax(anchor k among its own candidate and all that are not known to match)[own], in nats.

        Args:
            own_BD: the candidates of the anchors' own pairs.
        """
        own_B = scale * (anchor_BD * own_BD).sum(1)
        others_B = self.log_sums(anchor_BD, scale, modality, without_matches=True)
        return (torch.logaddexp(own_B, others_B) - own_B).mean()

    def cross_entropy(
        self, target: tuple[Tensor, Tensor | float], student: tuple[Tensor, Tensor | float], modality: Modality
    ) -> Tensor:
        """mean_k H(softmax of the target's anchor k, softmax of the student's) over all candidates, in nats.

        Args:
            target, student: anchors [B, D] and scale of each. The target is a constant.
        """
        (target_BD, target_scale), (student_BD, scale) = target, student
        with torch.no_grad():
            log_sums_B = self.log_sums(target_BD, target_scale, modality)
            expected_BD = torch.zeros_like(target_BD)
            for logits_BC, block_CD in self._logits(target_BD, target_scale, modality):
                expected_BD.addmm_(logits_BC.sub_(log_sums_B[:, None]).exp_(), block_CD)
        # Logits are linear in the candidate: their expectation is the logit of the expected candidate.
        expected_logit_B = scale * (student_BD * expected_BD).sum(1)
        return (self.log_sums(student_BD, scale, modality) - expected_logit_B).mean()

    def log_sums(
        self, anchor_BD: Tensor, scale: Tensor | float, modality: Modality, *, without_matches: bool = False
    ) -> Tensor:
        """Log-sum-exp of every anchor's logits with all candidates, [B]; −∞ for an anchor that all of them match."""
        log_sums_B: Tensor = _LogSums.apply(anchor_BD, scale, self, modality, without_matches)
        return log_sums_B

    def _logits(
        self, anchor_BD: Tensor, scale: Tensor | float, modality: Modality, *, without_matches: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The logits of a block, [B, C], with −∞ for matches that are left out, and the block's candidates."""
        for pairs_C, stored_CD in self.blocks(modality):
            block_CD = stored_CD.to(anchor_BD.dtype)
            logits_BC = (anchor_BD @ block_CD.T).mul_(scale)
            if without_matches:
                logits_BC.masked_fill_(self._is_match(pairs_C, logits_BC, modality), -torch.inf)
            yield logits_BC, block_CD

    def _is_match(self, pairs_C: Tensor, logits_BC: Tensor, modality: Modality) -> Tensor:
        rows_P, pairs_P = self.matches[modality]
        column_P = torch.searchsorted(pairs_C, pairs_P)
        in_block_P = pairs_C[column_P.clamp(max=len(pairs_C) - 1)] == pairs_P
        # Matches outside the block go to a column of their own, cut off below: selecting them would wait for a GPU.
        column_P = torch.where(in_block_P, column_P, len(pairs_C))
        is_match = torch.zeros(len(logits_BC), len(pairs_C) + 1, dtype=torch.bool, device=logits_BC.device)
        is_match[rows_P, column_P] = True
        return is_match[:, :-1]


class _LogSums(torch.autograd.Function):
    """Log-sum-exp over the candidates, one block at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        anchor_BD: Tensor,
        scale: Tensor | float,
        candidates: Candidates,
        modality: Modality,
        without_matches: bool,
    ) -> Tensor:
        log_sums_B = anchor_BD.new_full((len(anchor_BD),), -torch.inf)
        for logits_BC, _ in candidates._logits(anchor_BD, scale, modality, without_matches=without_matches):
            torch.logaddexp(log_sums_B, logits_BC.logsumexp(1), out=log_sums_B)
        ctx.save_for_backward(anchor_BD, log_sums_B)
        ctx.scale, ctx.candidates, ctx.arguments = scale, candidates, (modality, without_matches)
        return log_sums_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_log_sums_B: Tensor) -> tuple[Tensor | None, ...]:
        anchor_BD, log_sums_B = ctx.saved_tensors
        modality, without_matches = ctx.arguments
        # Without any candidate the sum is −∞ and every logit too: exp(−∞ − 0) = 0, not NaN.
        log_sums_B = torch.where(log_sums_B.isinf(), 0.0, log_sums_B)
        weighted_BD = torch.zeros_like(anchor_BD)
        for logits_BC, block_CD in ctx.candidates._logits(
            anchor_BD, ctx.scale, modality, without_matches=without_matches
        ):
            weighted_BD.addmm_(logits_BC.sub_(log_sums_B[:, None]).exp_(), block_CD)
        weighted_BD.mul_(to_log_sums_B[:, None])
        to_scale = (anchor_BD * weighted_BD).sum() if ctx.needs_input_grad[1] else None
        return ctx.scale * weighted_BD, to_scale, None, None, None
