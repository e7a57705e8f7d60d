"""Chance levels: the scores of the best constant prediction and of a random guess."""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.evaluation.ranks import paired_blocks


def constant_recall(
    image_group_N: Tensor, text_group_M: Tensor, *, block_size: int = 1000, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """The R@k of the best constant prediction, the same k candidates for all queries of a block, by metric name.

    It is k / n where all n groups of a block differ, and never below the expected R@k of a random order. A collapsed
    model predicts like this, and scores high where some groups are large.

    Args:
        image_group_N, text_group_M, block_size, ks: as for :func:`~workbench.evaluation.retrieval.retrieval`.

    Raises:
        ValueError: no items, or captions that are not in the order of their images.
    """
    blocks = paired_blocks(image_group_N, text_group_M, block_size)
    queries = {
        "image_to_text": [image_group_N[block.images] for block in blocks],
        "text_to_image": [text_group_M[block.texts] for block in blocks],
    }
    return {f"{way}_r{k}": _share_of_most_frequent(groups, k) for way, groups in queries.items() for k in ks}


def constant_accuracy(label_N: Tensor, ks: Sequence[int] = (1, 5)) -> dict[str, float]:
    """The zero-shot accuracy of always predicting the k most frequent classes, by metric name."""
    return {f"zero_shot_top{k}": _share_of_most_frequent([label_N], k) for k in ks}


def random_recall(
    image_group_N: Tensor, text_group_M: Tensor, *, block_size: int = 1000, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """The expected R@k of candidates in random order, by metric name.

    With ``right`` correct ones among the n candidates of a block, a query hits with probability
    1 − C(n − right, k) / C(n, k).

    Raises:
        ValueError: captions that are not in the order of their images.
    """
    both: dict[str, list[tuple[Tensor, Tensor]]] = {"image_to_text": [], "text_to_image": []}
    for block in paired_blocks(image_group_N, text_group_M, block_size):
        images_N, texts_M = image_group_N[block.images].cpu(), text_group_M[block.texts].cpu()
        for way, queries, candidates in (
            ("image_to_text", images_N, texts_M),
            ("text_to_image", texts_M, images_N),
        ):
            num_candidates_Q = torch.full_like(queries, len(candidates))
            both[way].append((num_in_group(queries, candidates), num_candidates_Q))
    return {
        f"{way}_r{k}": float(torch.cat([hit_probability(right, among, k) for right, among in parts]).mean())
        for way, parts in both.items()
        for k in ks
    }


def random_accuracy(num_classes: int) -> dict[str, float]:
    """The expected accuracy of a random guess, by metric name: k of the K classes."""
    return {f"zero_shot_top{k}": min(1.0, k / num_classes) for k in (1, 5)}


def num_in_group(query_Q: Tensor, candidate_C: Tensor) -> Tensor:
    """The number of candidates with each query's group, int64 [Q]."""
    ordered_C = candidate_C.sort().values
    return torch.searchsorted(ordered_C, query_Q, right=True) - torch.searchsorted(ordered_C, query_Q)


def hit_probability(own_Q: Tensor, true_Q: Tensor, k: int) -> Tensor:
    """The probability that k draws from ``true`` candidates hit one of ``own``, float64 [Q]."""
    own_Q, true_Q = own_Q.double(), true_Q.double()
    # 1 − C(true − own, k) / C(true, k) as a product of k factors: the binomials themselves would overflow.
    miss_Q = torch.ones_like(true_Q)
    for drawn in range(k):
        miss_Q *= ((true_Q - own_Q - drawn) / (true_Q - drawn).clamp(min=1)).clamp(min=0)
    return 1 - miss_Q


def _share_of_most_frequent(blocks: Sequence[Tensor], k: int) -> float:
    """The share of all items that belong to the k most frequent values of their block."""
    counts = [torch.unique(kinds, return_counts=True)[1] for kinds in blocks]
    hits = sum(int(count.topk(min(k, len(count))).values.sum()) for count in counts)
    return hits / sum(map(len, blocks))
