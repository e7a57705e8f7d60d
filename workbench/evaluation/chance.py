"""What an answer scores that does not look at its question: the level that a model must be clearly above."""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.evaluation.ranks import paired_blocks


def blind_recall(
    image_group_N: Tensor, text_group_M: Tensor, *, block_size: int = 1000, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """The R@k of the best fixed answer, the same k candidates for every query of a block, by metric name.

    It is k / n where all n groups of a block are different, and never below what guessing at random is expected to
    score. A collapsed model answers like that, and where some groups are large it scores well.

    Args:
        image_group_N, text_group_M, block_size, ks: as for :func:`~workbench.evaluation.retrieval.retrieval`.

    Raises:
        ValueError: there is nothing, or captions out of the order of their images.
    """
    blocks = paired_blocks(image_group_N, text_group_M, block_size)
    queries = {
        "image_to_text": [image_group_N[block.images] for block in blocks],
        "text_to_image": [text_group_M[block.texts] for block in blocks],
    }
    return {f"{way}_r{k}": _largest(groups, k) for way, groups in queries.items() for k in ks}


def blind_top(label_N: Tensor, ks: Sequence[int] = (1, 5)) -> dict[str, float]:
    """The zero-shot accuracy of always naming the k most frequent classes, by metric name."""
    return {f"zero_shot_top{k}": _largest([label_N], k) for k in ks}


def _largest(blocks: Sequence[Tensor], k: int) -> float:
    """The share of all items that are of their block's k most frequent kinds."""
    counts = [torch.unique(kinds, return_counts=True)[1] for kinds in blocks]
    hits = sum(int(count.topk(min(k, len(count))).values.sum()) for count in counts)
    return hits / sum(map(len, blocks))
