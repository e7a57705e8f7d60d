"""The rank of the best right candidate, without ever holding all scores at once."""

from dataclasses import dataclass

import torch
from torch import Tensor

MAX_SCORES = 2**22  # scores held at once: 16 MiB of float32, and twice that for their comparison
TIE = 1e-6  # float32 cannot tell scores apart that are closer; duplicates tie in every chunk and machine


@dataclass(frozen=True)
class ItemScores:
    """Metrics that are means over queries.

    ``metrics`` are fractions in [0, 1] and ``errors`` their standard errors; ``hits`` has each query's
    outcome, bool on the CPU in the order of the queries, for paired tests.
    """

    metrics: dict[str, float]
    errors: dict[str, float]
    hits: dict[str, Tensor]


def check_embeddings(**named_ND: Tensor) -> None:
    """Refuses what has no rank.

    Raises:
        ValueError: a tensor is not a matrix, has no row, or holds a NaN or an infinity.
    """
    for name, rows_ND in named_ND.items():
        if rows_ND.ndim != 2 or len(rows_ND) == 0:
            raise ValueError(f"the {name} embeddings have shape {list(rows_ND.shape)}: need at least one row")
        if num_bad := int((~rows_ND.isfinite().all(1)).sum()):
            raise ValueError(
                f"{num_bad} of {len(rows_ND)} {name} embeddings are not finite: the model has diverged, "
                "evaluate an earlier checkpoint"
            )


def best_ranks(query_ND: Tensor, candidate_MD: Tensor, query_group_N: Tensor, candidate_group_M: Tensor) -> Tensor:
    """The rank of each query's best right candidate, int64 [N] on the CPU; 1 is the top.

    A candidate is right if its group is the query's. The score is the dot product (the cosine, for unit
    rows); wrong candidates that tie with the best right one are ranked above it, so that a collapsed model
    scores nothing.

    Raises:
        ValueError: a query has no right candidate.
    """
    dtype = torch.promote_types(query_ND.dtype, torch.float32)
    query_ND, candidate_DM = query_ND.to(dtype), candidate_MD.to(dtype).T
    query_group_N = query_group_N.to(query_ND.device)
    candidate_group_M = candidate_group_M.to(query_ND.device)
    num_rows = max(1, MAX_SCORES // len(candidate_MD))
    rank_N = torch.empty(len(query_ND), dtype=torch.int64)  # whole: pieces between the chunks fragment the heap
    for start in range(0, len(query_ND), num_rows):
        rows = slice(start, start + num_rows)
        right_CM = query_group_N[rows, None] == candidate_group_M
        rank_N[rows] = _rank_chunk(query_ND[rows] @ candidate_DM, right_CM)
    return rank_N


def _rank_chunk(score_CM: Tensor, right_CM: Tensor) -> Tensor:
    if not right_CM.any(1).all():
        raise ValueError("a query has no right candidate: give every picture a caption of its own group")
    best_C1 = torch.where(right_CM, score_CM, -torch.inf).amax(1, keepdim=True)
    above_CM = score_CM >= best_C1 - TIE
    above_CM &= ~right_CM
    return above_CM.sum(1).add(1)
