"""Recall at k between images and captions: ranks of the best correct candidates, in blocks, with standard errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_SCORES = 2**22  # scores in memory at once: 16 MiB of float32, and twice that to compare them
TIE = 1e-6  # closer scores are equal within float32 rounding: duplicates tie in every chunk, on every machine


@dataclass(frozen=True)
class Block:
    """Consecutive images and all their captions."""

    images: slice
    texts: slice


@dataclass(frozen=True)
class ItemScores:
    """Metrics that are means over queries.

    ``metrics`` are fractions in [0, 1] and ``errors`` their standard errors; ``hits`` holds each query's outcome, bool
    on the CPU in the order of the queries, for paired tests.
    """

    metrics: dict[str, float]
    errors: dict[str, float]
    hits: dict[str, Tensor]


@torch.no_grad()
def retrieval(
    image_ND: Tensor,
    text_MD: Tensor,
    image_group_N: Tensor,
    text_group_M: Tensor,
    *,
    block_size: int = 1000,
    ks: Sequence[int] = (1, 5, 10),
) -> ItemScores:
    """R@k (``image_to_text_r1`` and so on): the share of queries with a correct candidate among the k nearest.

    A candidate is correct if it has the query's group; incorrect candidates that tie with it rank above it. Consecutive
    blocks of ``block_size`` images, with all their captions, are searched separately, as in the COCO-1K protocol; 0
    means a single block. A short last block is merged (:func:`block_slices`). Metrics are means over all queries.

    Args:
        image_ND, text_MD: unit-length embeddings; captions in the order of their images.
        image_group_N, text_group_M: int64; pairs with the same group are correct for each other.

    Raises:
        ValueError: embeddings that are not finite, groups that do not match them, a query without a correct candidate,
            or captions out of order where there are several blocks.
    """
    check_embeddings(image=image_ND, caption=text_MD)
    if (len(image_group_N), len(text_group_M)) != (len(image_ND), len(text_MD)):
        raise ValueError(
            f"{len(image_ND)} images and {len(text_MD)} captions have {len(image_group_N)} and "
            f"{len(text_group_M)} groups: give one group to each"
        )
    blocks = paired_blocks(image_group_N, text_group_M, block_size)
    to_text, to_image = _ranks_by_block(blocks, image_ND, text_MD, image_group_N, text_group_M)
    result = ItemScores({}, {}, {})
    directions = {"image_to_text": (to_text, image_group_N), "text_to_image": (to_image, text_group_M)}
    for direction, (ranks, group_Q) in directions.items():
        rank_Q, sizes = torch.cat(ranks), torch.tensor([len(part) for part in ranks])
        block_Q = torch.arange(len(blocks)).repeat_interleave(sizes)
        for k in ks:
            hit_Q = rank_Q <= k
            result.hits[f"{direction}_r{k}"] = hit_Q
            result.metrics[f"{direction}_r{k}"] = float(hit_Q.double().mean())
            result.errors[f"{direction}_r{k}"] = _standard_error(hit_Q.double(), block_Q, group_Q.cpu())
    return result


def _ranks_by_block(
    blocks: Sequence[Block], image_ND: Tensor, text_MD: Tensor, image_group_N: Tensor, text_group_M: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    to_text, to_image = [], []
    for block in blocks:
        image_BD, image_group_B = image_ND[block.images], image_group_N[block.images]
        text_CD, text_group_C = text_MD[block.texts], text_group_M[block.texts]
        to_text.append(best_ranks(image_BD, text_CD, image_group_B, text_group_C))
        to_image.append(best_ranks(text_CD, image_BD, text_group_C, image_group_B))
    return to_text, to_image


def _standard_error(hit_Q: Tensor, block_Q: Tensor, group_Q: Tensor) -> float:
    """Binomial within each block; the blocks themselves are taken as fixed.

    Queries of one block and group (captions of one image, for example) are not independent and count as one item: with
    residuals r = hit − block mean, SE = sqrt(Σ_items (Σ_queries r)²) / queries. With one query per item, this is
    sqrt(Σ_blocks n_b p_b (1 − p_b)) / n.
    """
    residual_Q = hit_Q - (torch.bincount(block_Q, weights=hit_Q) / torch.bincount(block_Q))[block_Q]
    # Queries of one block and group are one item. Residuals within it are summed before squaring: correlated queries do
    # not average out.
    _, item_Q = torch.unique(torch.stack([block_Q, group_Q], dim=1), dim=0, return_inverse=True)
    return float(torch.bincount(item_Q, weights=residual_Q).square().sum().sqrt() / len(hit_Q))


def block_slices(num_items: int, block_size: int) -> list[slice]:
    """Split items into consecutive blocks of ``block_size``; 0 means a single block.

    No item is dropped: a last block of fewer than half of ``block_size`` is merged into its predecessor. So block sizes
    range from 0.5 to 1.5 times ``block_size``.
    """
    if num_items == 0:
        raise ValueError("there is nothing to evaluate: the dataset is empty")
    if block_size < 0:
        raise ValueError(f"block_size is {block_size}: give a number of images, or 0 for a single block")
    starts = list(range(0, num_items, block_size or num_items))
    if len(starts) > 1 and 2 * (num_items - starts[-1]) < block_size:
        starts.pop()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], num_items], strict=True)]


def paired_blocks(image_group_N: Tensor, text_group_M: Tensor, block_size: int) -> list[Block]:
    """Blocks of images with the captions that belong to them."""
    images = block_slices(len(image_group_N), block_size)
    if len(images) == 1:
        return [Block(images[0], slice(0, len(text_group_M)))]
    owner_M = caption_owner(image_group_N, text_group_M)
    edges = torch.searchsorted(owner_M, torch.tensor([block.stop for block in images])).tolist()
    texts = [slice(start, stop) for start, stop in zip([0, *edges[:-1]], edges, strict=True)]
    return [Block(image, text) for image, text in zip(images, texts, strict=True)]


def caption_owner(image_group_N: Tensor, text_group_M: Tensor) -> Tensor:
    """The index of the image that each caption belongs to, int64 [M], never decreasing.

    Captions must be in the order of their images. Where consecutive images share a group, its captions are distributed
    evenly among them, which is exact if each has the same number.
    """
    image_runs, image_counts = torch.unique_consecutive(image_group_N.cpu(), return_counts=True)
    text_runs, text_run_M, text_counts = torch.unique_consecutive(
        text_group_M.cpu(), return_inverse=True, return_counts=True
    )
    if not torch.equal(image_runs, text_runs):
        raise ValueError(
            "captions must be in the order of their images, each with its image: sort them, or set block_size=0"
        )
    first_image, first_text = image_counts.cumsum(0) - image_counts, text_counts.cumsum(0) - text_counts
    # The position of each caption in its group's run is scaled to the group's number of images.
    position_M = torch.arange(len(text_run_M)) - first_text[text_run_M]
    owner_M: Tensor = first_image[text_run_M] + position_M * image_counts[text_run_M] // text_counts[text_run_M]
    return owner_M


def check_embeddings(**named_ND: Tensor) -> None:
    """Raise ValueError if a tensor is not a matrix, has no rows, or contains NaN or infinity."""
    for name, rows_ND in named_ND.items():
        if rows_ND.ndim != 2 or len(rows_ND) == 0:
            raise ValueError(f"the {name} embeddings have shape {list(rows_ND.shape)}: need at least one row")
        if num_bad := int((~rows_ND.isfinite().all(1)).sum()):
            raise ValueError(
                f"{num_bad} of {len(rows_ND)} {name} embeddings are not finite: the model has diverged, "
                "evaluate an earlier checkpoint"
            )


def best_ranks(query_ND: Tensor, candidate_MD: Tensor, query_group_N: Tensor, candidate_group_M: Tensor) -> Tensor:
    """The rank of each query's best correct candidate, int64 [N] on the CPU; 1 is the top.

    A candidate is correct if it has the query's group, or one of its A groups, [N, A]. The score is the dot product.
    Incorrect candidates that tie with the best correct one rank above it, so that a collapsed model scores 0.
    """
    # At least float32: in bfloat16 many scores tie, and ties count against the model.
    dtype = torch.promote_types(query_ND.dtype, torch.float32)
    query_ND, candidate_DM = query_ND.to(dtype), candidate_MD.to(dtype).T
    query_group_N = query_group_N.to(query_ND.device)
    candidate_group_M = candidate_group_M.to(query_ND.device)
    num_rows = max(1, MAX_SCORES // len(candidate_MD))
    rank_N = torch.empty(len(query_ND), dtype=torch.int64)  # preallocated: pieces between chunks fragment the heap
    for start in range(0, len(query_ND), num_rows):
        rows = slice(start, start + num_rows)
        # [C, 1, M], or [C, A, M] of several groups.
        correct_CM = (query_group_N[rows].view(len(query_ND[rows]), -1, 1) == candidate_group_M).any(1)
        rank_N[rows] = _rank_chunk(query_ND[rows] @ candidate_DM, correct_CM)
    return rank_N


def _rank_chunk(score_CM: Tensor, correct_CM: Tensor) -> Tensor:
    if not correct_CM.any(1).all():
        raise ValueError("a query has no correct candidate: give every image a caption of its own group")
    best_C1 = torch.where(correct_CM, score_CM, -torch.inf).amax(1, keepdim=True)
    # Only incorrect candidates count: others of the query's group do not push it down.
    above_CM = score_CM >= best_C1 - TIE
    above_CM &= ~correct_CM
    return above_CM.sum(1).add(1)
