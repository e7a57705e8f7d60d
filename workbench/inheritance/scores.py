"""How much the layers, channels and heads of a tower matter: from their weights, or from what they do to data.

Shape letters: T tokens of a tower, C its embedding channels, H heads, W channels of a head, F FFN channels.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.config.shape import TOWERS, Tower
from workbench.models.clip import Clip
from workbench.models.towers import holder

Weights = Mapping[str, Tensor]


def layer_loudness(block: Weights) -> float:
    """How loudly a block can write into the residual stream, by its weights alone.

    For each branch the product of the Frobenius norms of its two matrices, the first behind the gains of its norm (of
    the attention: the value and the output matrix); for the block, the root of the sum of squares.
    """
    total = 0.0
    if "attn.out_proj.weight" in block:
        inward = block["attn.in_proj_weight"].chunk(3)[2] * block["ln_1.weight"]
        total += float(inward.norm() * block["attn.out_proj.weight"].norm()) ** 2
    if "mlp.c_proj.weight" in block:
        inward = block["mlp.c_fc.weight"] * block["ln_2.weight"]
        total += float(inward.norm() * block["mlp.c_proj.weight"].norm()) ** 2
    return math.sqrt(total)


def embedding_magnitudes(blocks: Sequence[Weights]) -> Tensor:
    """[C]: the norm of every weight in the attention and FFN matrices that reads or writes an embedding channel."""
    reads = [block[name] for block in blocks for name in ("attn.in_proj_weight", "mlp.c_fc.weight") if name in block]
    writes = [
        block[name].T for block in blocks for name in ("attn.out_proj.weight", "mlp.c_proj.weight") if name in block
    ]
    return torch.cat([*reads, *writes]).square().sum(dim=0).sqrt()


def head_magnitudes(block: Weights, head_width: int) -> Tensor:
    """[H]: the norm of a head's rows of the query, key and value matrices and its columns of the output matrix."""
    inward, outward = block["attn.in_proj_weight"], block["attn.out_proj.weight"]
    rows = inward.square().sum(dim=1).reshape(3, -1, head_width).sum(dim=(0, 2))
    columns = outward.square().sum(dim=0).reshape(-1, head_width).sum(dim=1)
    return (rows + columns).sqrt()


def channel_magnitudes(block: Weights) -> Tensor:
    """[F]: the norm of an FFN channel's row of the first matrix and its column of the second."""
    inward, outward = block["mlp.c_fc.weight"], block["mlp.c_proj.weight"]
    return (inward.square().sum(dim=1) + outward.square().sum(dim=0)).sqrt()


@torch.no_grad()
def block_influence(model: Clip, image_BCHW: Tensor, text_BL: Tensor) -> dict[Tower, list[float]]:
    """How far every block of two transformer towers turns its tokens: 1 − cos(in, out), their mean.

    0 for a block that changes nothing. For the depth rule "importance", in place of the weights' loudness.
    """
    found: dict[Tower, list[float]] = {tower: [] for tower in TOWERS}
    hooks = [
        block.register_forward_hook(
            lambda _, inputs, output, tower=tower: found[tower].append(_turn(inputs[0], output))
        )
        for tower in TOWERS
        for block in holder(model.towers, tower).transformer.resblocks
    ]
    was_training = model.training
    try:
        model.eval()
        model.encode_image(image_BCHW)
        model.encode_text(text_BL)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return found


def _turn(before_BTC: Tensor, after_BTC: Tensor) -> float:
    return 1 - float(F.cosine_similarity(before_BTC.float(), after_BTC.float(), dim=-1).mean())
