"""Recall at k between images and captions, in both directions and in blocks, with standard errors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.evaluation.chance import hit_probability, num_in_group
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
    """R@k in both directions: the share of queries with a correct candidate among the k nearest.

    A candidate is correct if it has the query's group; incorrect candidates that tie with it rank above it. Consecutive
    blocks of ``block_size`` images, with all their captions, are searched separately, as in the COCO-1K protocol; 0
    means a single block. A short last block is merged (:func:`~workbench.evaluation.ranks.block_slices`). Metrics are
    means over all queries.

    The standard error is binomial within each block; the blocks themselves are taken as fixed. Queries of one block and
    group (captions of one image, for example) are not independent and count as one item: with residuals
    r = hit − block mean, SE = sqrt(Σ_items (Σ_queries r)²) / queries. With one query per item, this is
    sqrt(Σ_blocks n_b p_b (1 − p_b)) / n.

    Args:
        image_ND: unit-length image embeddings.
        text_MD: unit-length caption embeddings, in the order of their images.
        image_group_N: int64; pairs with the same group are correct for each other.
        text_group_M: int64.
        block_size: images per block.
        ks: values of k.

    Returns:
        Metrics, errors and hits named ``image_to_text_r1`` and so on.

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
    """The R@k of a perfect model if only an image's own captions counted as correct, by metric name.

    Such a model ranks the captions of a group in random order. With ``own`` captions among ``true`` of the group, a
    query hits with probability 1 − C(true − own, k) / C(true, k). The distance from 1 is the cost of false negatives.

    Raises:
        ValueError: captions that are not in the order of their images.
    """
    owner_M = caption_owner(image_group_N, text_group_M)
    num_own_N = torch.bincount(owner_M, minlength=len(image_group_N))
    to_text: list[tuple[Tensor, Tensor]] = []
    to_image: list[tuple[Tensor, Tensor]] = []
    for block in paired_blocks(image_group_N, text_group_M, block_size):
        images_N, texts_M = image_group_N[block.images].cpu(), text_group_M[block.texts].cpu()
        to_text.append((num_own_N[block.images], num_in_group(images_N, texts_M)))
        to_image.append((torch.ones_like(texts_M), num_in_group(texts_M, images_N)))
    return {
        f"{direction}_r{k}": float(torch.cat([hit_probability(own, true, k) for own, true in parts]).mean())
        for direction, parts in (("image_to_text", to_text), ("text_to_image", to_image))
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
    """(block, group) of every query, int64 [Q, 2]: queries with equal rows are one item of the standard error."""
    sizes = torch.tensor([part.stop - part.start for part in slices])
    block_Q = torch.arange(len(slices)).repeat_interleave(sizes)
    return torch.stack([block_Q, group_Q.cpu()], dim=1)


def _standard_error(hit_Q: Tensor, item_Q2: Tensor) -> float:
    block_Q = item_Q2[:, 0]
    hit_Q = hit_Q.double()
    num_by_block = torch.bincount(block_Q)
    # Residuals within an item are summed before squaring: correlated queries do not average out.
    residual_Q = hit_Q - (torch.bincount(block_Q, weights=hit_Q) / num_by_block)[block_Q]
    _, item_Q = torch.unique(item_Q2, dim=0, return_inverse=True)
    return float(torch.bincount(item_Q, weights=residual_Q).square().sum().sqrt() / len(hit_Q))
