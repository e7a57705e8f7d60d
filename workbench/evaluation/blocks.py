"""Blocks of pictures with their captions, so that a score does not depend on how many were evaluated."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Block:
    """Neighbouring pictures and all their captions."""

    images: slice
    texts: slice


def block_slices(num_items: int, block_size: int) -> list[slice]:
    """Cuts items into neighbours of ``block_size``; 0 means one block with everything.

    No item is dropped: a last block of fewer than half of ``block_size`` joins its predecessor, a longer one
    stands alone. So no block has fewer than half the pictures of the others, or half as many again.

    Raises:
        ValueError: there is no item, or the block size is negative.
    """
    if num_items == 0:
        raise ValueError("there is nothing to evaluate: the data set is empty")
    if block_size < 0:
        raise ValueError(f"block_size is {block_size}: give a number of pictures, or 0 for one block")
    starts = list(range(0, num_items, block_size or num_items))
    if len(starts) > 1 and 2 * (num_items - starts[-1]) < block_size:
        starts.pop()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], num_items], strict=True)]


def paired_blocks(image_group_N: Tensor, text_group_M: Tensor, block_size: int) -> list[Block]:
    """Blocks of pictures with the captions that belong to them.

    Raises:
        ValueError: there are several blocks, and the captions do not follow the order of their pictures.
    """
    images = block_slices(len(image_group_N), block_size)
    if len(images) == 1:
        return [Block(images[0], slice(0, len(text_group_M)))]
    owner_M = caption_owner(image_group_N, text_group_M)
    edges = torch.searchsorted(owner_M, torch.tensor([block.stop for block in images])).tolist()
    texts = [slice(start, stop) for start, stop in zip([0, *edges[:-1]], edges, strict=True)]
    return [Block(image, text) for image, text in zip(images, texts, strict=True)]


def caption_owner(image_group_N: Tensor, text_group_M: Tensor) -> Tensor:
    """The index of the picture that each caption belongs to, int64 [M], never decreasing.

    Captions stand in the order of their pictures. Where neighbouring pictures share a group, their captions
    are dealt out evenly, which is exact when each has as many.

    Raises:
        ValueError: the groups of the captions do not follow those of the pictures.
    """
    image_runs, image_counts = torch.unique_consecutive(image_group_N.cpu(), return_counts=True)
    text_runs, text_run_M, text_counts = torch.unique_consecutive(
        text_group_M.cpu(), return_inverse=True, return_counts=True
    )
    if not torch.equal(image_runs, text_runs):
        raise ValueError(
            "captions must stand in the order of their pictures, all with one: sort them, or set block_size=0"
        )
    first_image = image_counts.cumsum(0) - image_counts
    first_text = text_counts.cumsum(0) - text_counts
    place_M = torch.arange(len(text_run_M)) - first_text[text_run_M]
    owner_M: Tensor = first_image[text_run_M] + place_M * image_counts[text_run_M] // text_counts[text_run_M]
    return owner_M
