"""Behind its last block a tower reads one token of each row: its FFN is computed for that token alone.

The class token of an image, or the end of a text. The FFN is two thirds of a block's products, so a student of two or
three blocks gains most. Embeddings stay the same bit for bit, and gradients up to the order of summation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from workbench.models.towers import Block, tower_module

LEAST_ROWS = 12  # fewer rows are multiplied by other kernels, which round differently


@contextmanager
def pooled_token_only(transformer: nn.Module | None, rows_B: Tensor | None) -> Iterator[None]:
    """Context in which the last block returns the token ``rows_B`` of each row, at every place; all for None."""
    block = transformer.resblocks[-1] if transformer is not None and rows_B is not None else None  # type: ignore[index]  # a ModuleList
    # A hook, such as one that collects features or channel statistics, reads all tokens.
    if not isinstance(block, Block) or any(m._forward_hooks or m._forward_pre_hooks for m in block.modules()):
        yield
        return
    block.read_B = rows_B
    try:
        yield
    finally:
        block.read_B = None


def image_token(visual: nn.Module, image_BCHW: Tensor) -> tuple[nn.Module | None, Tensor | None]:
    """An image tower's transformer and the token that it pools, int64 [B]; None if it pools several, or few images."""
    is_vit = isinstance(visual, VisionTransformer) and visual.attn_pool is None and visual.pool_type == "tok"
    if not is_vit or len(image_BCHW) < LEAST_ROWS:
        return None, None
    assert isinstance(visual, VisionTransformer)
    return visual.transformer, torch.zeros(len(image_BCHW), dtype=torch.int64, device=image_BCHW.device)


def text_token(towers: Any, text_BL: Tensor) -> tuple[nn.Module | None, Tensor | None]:
    """The same of the text tower: the end of each text, which has the largest id, int64 [B]."""
    text = tower_module(towers, "text")
    pool_type = text.pool_type if hasattr(towers, "text") else text.text_pool_type
    if pool_type != "argmax" or getattr(text, "cls_emb", None) is not None or len(text_BL) < LEAST_ROWS:
        return None, None
    return text.transformer, text_BL.argmax(dim=1)
