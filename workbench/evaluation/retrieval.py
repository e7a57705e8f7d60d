"""Retrieval between images and captions: recall at k, both ways, in blocks, with standard errors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.evaluation.ranks import Block, ItemScores, best_ranks, caption_owner, check_embeddings, paired_blocks

RetrievalResult = ItemScores


@torch.no_grad()
def retrieval(
    image_ND: Tensor,
    text_MD: Tensor,
    image_group_N: Tensor,
    text_group_M: Tensor,
    *,
    block_size: int = 1000,
    ks: Sequence[int] = (1, 5, 10),
) -> RetrievalResult:
    """R@k both ways: the share of queries that find a right candidate among the k nearest.

    A candidate is right if its group equals the query's; wrong candidates that tie with it count against it.
    Blocks of ``block_size`` images in order, with all their captions, see only their own candidates, as in
    the COCO-1K protocol; 0 means one block. ``block_slices`` says what happens to a short last block. A
    metric is the mean over all queries.

    The standard error is that of the binomial within each block; the difficulty of the blocks themselves is
    taken as given. Queries of one block and group (the captions of one image, say) are not independent and
    count as one item: with residuals r = hit - block mean, SE = sqrt(Σ_items (Σ_queries r)²) / queries. With
    one query an item, that is sqrt(Σ_blocks n_b p_b (1 - p_b)) / n.

    Args:
        image_ND: unit-length images.
        text_MD: unit-length captions, in the order of their images.
        image_group_N: int64; pairs with the same group are true of one another.
        text_group_M: int64.
        block_size: images in a block.
        ks: the depths.

    Returns:
        Metrics, errors and hits named ``image_to_text_r1`` and so on.

    Raises:
        ValueError: embeddings that are not finite, groups that do not fit them, a query without a right
            candidate, or captions out of order where there are several blocks.
    """
    check_embeddings(image=image_ND, caption=text_MD)
    if (len(image_group_N), len(text_group_M)) != (len(image_ND), len(text_MD)):
        raise ValueError(
            f"{len(image_ND)} images and {len(text_MD)} captions have {len(image_group_N)} and "
            f"{len(text_group_M)} groups: give one group to each"
        )
    blocks = paired_blocks(image_group_N, text_group_M, block_size)
    to_text_N, to_image_M = _ranks(blocks, image_ND, text_MD, image_group_N, text_group_M)
    image_item_N = _items([block.images for block in blocks], image_group_N)
    text_item_M = _items([block.texts for block in blocks], text_group_M)
    result = RetrievalResult({}, {}, {})
    for direction, rank_Q, item_Q2 in (
        ("image_to_text", to_text_N, image_item_N),
        ("text_to_image", to_image_M, text_item_M),
    ):
        for k in ks:
            hit_Q = rank_Q <= k
            result.hits[f"{direction}_r{k}"] = hit_Q
            result.metrics[f"{direction}_r{k}"] = float(hit_Q.double().mean())
            result.errors[f"{direction}_r{k}"] = _standard_error(hit_Q, item_Q2)
    return result


def false_negative_ceiling(
    image_group_N: Tensor,
    text_group_M: Tensor,
    *,
    block_size: int = 1000,
    ks: Sequence[int] = (1, 5, 10),
) -> dict[str, float]:
    """The R@k of a perfect model if only an image's own captions counted as right, by metric name.

    Such a model cannot tell apart the captions of one group, and orders them by chance. With ``own`` right
    ones among ``true`` of the group, the chance of a hit is 1 - C(true - own, k) / C(true, k). What is
    missing from 1 is what false negatives would have cost.

    Raises:
        ValueError: captions out of the order of their images.
    """
    owner_M = caption_owner(image_group_N, text_group_M)
    num_own_N = torch.bincount(owner_M, minlength=len(image_group_N))
    to_text: list[tuple[Tensor, Tensor]] = []
    to_image: list[tuple[Tensor, Tensor]] = []
    for block in paired_blocks(image_group_N, text_group_M, block_size):
        images_N, texts_M = image_group_N[block.images].cpu(), text_group_M[block.texts].cpu()
        to_text.append((num_own_N[block.images], _num_equal(images_N, texts_M)))
        to_image.append((torch.ones_like(texts_M), _num_equal(texts_M, images_N)))
    return {
        f"{direction}_r{k}": float(torch.cat([_chance(own, true, k) for own, true in parts]).mean())
        for direction, parts in (("image_to_text", to_text), ("text_to_image", to_image))
        for k in ks
    }


def random_recall(
    image_group_N: Tensor, text_group_M: Tensor, *, block_size: int = 1000, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """The expected R@k of candidates in random order, by metric name: chance.

    With ``right`` of the n candidates of a block right, a query hits with probability 1 - C(n - right, k) / C(n, k).

    Raises:
        ValueError: captions out of the order of their images.
    """
    both: dict[str, list[tuple[Tensor, Tensor]]] = {"image_to_text": [], "text_to_image": []}
    for block in paired_blocks(image_group_N, text_group_M, block_size):
        images_N, texts_M = image_group_N[block.images].cpu(), text_group_M[block.texts].cpu()
        for way, queries, candidates in (
            ("image_to_text", images_N, texts_M),
            ("text_to_image", texts_M, images_N),
        ):
            num_candidates_Q = torch.full_like(queries, len(candidates))
            both[way].append((_num_equal(queries, candidates), num_candidates_Q))
    return {
        f"{way}_r{k}": float(torch.cat([_chance(right, among, k) for right, among in parts]).mean())
        for way, parts in both.items()
        for k in ks
    }


def _ranks(
    blocks: Sequence[Block], image_ND: Tensor, text_MD: Tensor, image_group_N: Tensor, text_group_M: Tensor
) -> tuple[Tensor, Tensor]:
    to_text, to_image = [], []
    for block in blocks:
        images = image_ND[block.images], image_group_N[block.images]
        texts = text_MD[block.texts], text_group_M[block.texts]
        to_text.append(best_ranks(images[0], texts[0], images[1], texts[1]))
        to_image.append(best_ranks(texts[0], images[0], texts[1], images[1]))
    return torch.cat(to_text), torch.cat(to_image)


def _items(slices: Sequence[slice], group_Q: Tensor) -> Tensor:
    """(block, group) of every query, int64 [Q, 2]."""
    sizes = torch.tensor([part.stop - part.start for part in slices])
    block_Q = torch.arange(len(slices)).repeat_interleave(sizes)
    return torch.stack([block_Q, group_Q.cpu()], dim=1)


def _standard_error(hit_Q: Tensor, item_Q2: Tensor) -> float:
    block_Q = item_Q2[:, 0]
    hit_Q = hit_Q.double()
    num_by_block = torch.bincount(block_Q)
    residual_Q = hit_Q - (torch.bincount(block_Q, weights=hit_Q) / num_by_block)[block_Q]
    _, item_Q = torch.unique(item_Q2, dim=0, return_inverse=True)
    return float(torch.bincount(item_Q, weights=residual_Q).square().sum().sqrt() / len(hit_Q))


def _num_equal(query_Q: Tensor, candidate_C: Tensor) -> Tensor:
    """For every query's group, how many candidates share it, int64 [Q]."""
    ordered_C = candidate_C.sort().values
    return torch.searchsorted(ordered_C, query_Q, right=True) - torch.searchsorted(ordered_C, query_Q)


def _chance(own_Q: Tensor, true_Q: Tensor, k: int) -> Tensor:
    own_Q, true_Q = own_Q.double(), true_Q.double()
    miss_Q = torch.ones_like(true_Q)
    for drawn in range(k):
        miss_Q *= ((true_Q - own_Q - drawn) / (true_Q - drawn).clamp(min=1)).clamp(min=0)
    return 1 - miss_Q
