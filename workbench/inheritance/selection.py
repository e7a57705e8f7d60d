"""Parts of a transformer tower that a student keeps: layers, embedding channels, heads and FFN channels.

Shape letters: T tokens of a tower, C embedding channels, H heads, F FFN channels.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.config.base import Config
from workbench.config.inheritance import TOWERS, Tower, TowerPlan, TowerShape, WidthRule
from workbench.models.clip import Clip
from workbench.models.towers import tower_module


def num_kept_of(setting: str, wanted: int | float, available: int, what: str) -> int:
    """How many of ``available`` parts a plan keeps: 0 keeps all, a float is a share."""
    if not wanted:
        return available
    if isinstance(wanted, float):
        return max(1, round(wanted * available))
    if wanted > available:
        raise ValueError(f"{setting} {wanted}: the teacher has {available} {what}, choose 1 to {available}")
    return wanted


def choose_layers(plan: TowerPlan, num_layers: int, scores: Sequence[float]) -> tuple[int, ...]:
    """Numbers of the layers to keep, ascending.

    Args:
        scores: importance of each layer, for the rule "importance".
    """
    if isinstance(plan.depth, tuple):
        if missing := [layer for layer in plan.depth if layer >= num_layers]:
            raise ValueError(f"depth names layer {missing[0]}: the teacher has layers 0 to {num_layers - 1}")
        if list(plan.depth) != sorted(set(plan.depth)):
            raise ValueError(f"depth names layers {list(plan.depth)}: name each once, in ascending order")
        return plan.depth
    num_kept = num_kept_of("depth", plan.depth, num_layers, "layers")
    match plan.depth_rule:
        case "released_stride":
            step = num_layers // num_kept  # TinyCLIP's code: rounds down, so the last layers may all be dropped
            return tuple(range(0, step * num_kept, step))
        case "first":
            return tuple(range(num_kept))
        case "last":
            return tuple(range(num_layers - num_kept, num_layers))
        case "importance":
            ranked = sorted(range(num_layers), key=lambda layer: -scores[layer])
            return tuple(sorted(ranked[:num_kept]))
        case "even":
            # From the first to the last layer; integer arithmetic, so that ties round the same everywhere.
            return tuple(
                (2 * n * (num_layers - 1) + num_kept - 1) // max(1, 2 * (num_kept - 1)) for n in range(num_kept)
            )


Weights = Mapping[str, Tensor]


def weight_importance(block: Weights) -> float:
    """The importance of a block by the norms of its weights: an upper bound on what it adds to the residual stream.

    Per branch, the product of the Frobenius norms of its two matrices, the first scaled by the gains of its layer norm
    (for attention: the value and the output matrix). Per block, the root of the sum of squares over its branches.
    """
    total = 0.0
    if "attn.out_proj.weight" in block:
        # The rows of queries, keys and values are stacked. Only values flow to the output; the other two choose among
        # tokens, and do not scale it.
        inward = block["attn.in_proj_weight"].chunk(3)[2] * block["ln_1.weight"]
        total += float(inward.norm() * block["attn.out_proj.weight"].norm()) ** 2
    if "mlp.c_proj.weight" in block:
        inward = block["mlp.c_fc.weight"] * block["ln_2.weight"]
        total += float(inward.norm() * block["mlp.c_proj.weight"].norm()) ** 2
    return math.sqrt(total)


def embedding_magnitudes(blocks: Sequence[Weights]) -> Tensor:
    """[C]: norm over all attention and FFN weights that read from or write to an embedding channel."""
    reads = [block[name] for block in blocks for name in ("attn.in_proj_weight", "mlp.c_fc.weight") if name in block]
    writes = [
        block[name].T for block in blocks for name in ("attn.out_proj.weight", "mlp.c_proj.weight") if name in block
    ]
    return torch.cat([*reads, *writes]).square().sum(dim=0).sqrt()


def head_magnitudes(block: Weights, head_width: int) -> Tensor:
    """[H]: norm over a head's rows of the query, key and value matrices and its columns of the output matrix."""
    inward, outward = block["attn.in_proj_weight"], block["attn.out_proj.weight"]
    # A head has as many consecutive rows in each of the three matrices as columns in the output matrix.
    rows = inward.square().sum(dim=1).reshape(3, -1, head_width).sum(dim=(0, 2))
    columns = outward.square().sum(dim=0).reshape(-1, head_width).sum(dim=1)
    return (rows + columns).sqrt()


def channel_magnitudes(block: Weights) -> Tensor:
    """[F]: norm over an FFN channel's row of the first matrix and its column of the second."""
    inward, outward = block["mlp.c_fc.weight"], block["mlp.c_proj.weight"]
    return (inward.square().sum(dim=1) + outward.square().sum(dim=0)).sqrt()


@torch.no_grad()
def block_influence(model: Clip, image_BCHW: Tensor, text_BL: Tensor) -> dict[Tower, list[float]]:
    """Mean 1 − cos(input, output) of the tokens of each block, per tower; 0 for a block that changes nothing.

    A data-based alternative to :func:`weight_importance` for the depth rule "importance". Both towers must be
    transformers.
    """
    found: dict[Tower, list[float]] = {tower: [] for tower in TOWERS}
    hooks = [
        block.register_forward_hook(
            lambda _, inputs, output, tower=tower: found[tower].append(_cosine_distance(inputs[0], output))
        )
        for tower in TOWERS
        for block in tower_module(model.towers, tower).transformer.resblocks
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


def _cosine_distance(before_BTC: Tensor, after_BTC: Tensor) -> float:
    return 1 - float(F.cosine_similarity(before_BTC.float(), after_BTC.float(), dim=-1).mean())


Numbers = tuple[int, ...]


class TowerSelection(Config):
    """Parts of one tower that stay. All numbers count from 0 and ascend."""

    layers: Numbers
    """Layers that stay, including those that keep only a bias."""
    embedding: Numbers
    """Embedding channels that stay, in all layers."""
    heads: tuple[Numbers, ...]
    """Attention heads that stay, for each layer that stays."""
    channels: tuple[Numbers, ...]
    """FFN channels that stay, for each layer that stays."""

    def shape(self, source: TowerShape) -> TowerShape:
        """The shape of the remaining tower."""
        return TowerShape(
            width=len(self.embedding),
            head_width=source.head_width,
            heads=tuple(len(heads) for heads in self.heads),
            channels=tuple(len(channels) for channels in self.channels),
        )

    def then(self, later: "TowerSelection") -> "TowerSelection":
        """The parts of the source that remain after ``later`` selects from the remaining parts."""
        return TowerSelection(
            layers=_among(self.layers, later.layers),
            embedding=_among(self.embedding, later.embedding),
            heads=tuple(_among(self.heads[n], kept) for n, kept in zip(later.layers, later.heads, strict=True)),
            channels=tuple(
                _among(self.channels[n], kept) for n, kept in zip(later.layers, later.channels, strict=True)
            ),
        )


Selection = dict[Tower, TowerSelection]


def full_selection(shape: TowerShape) -> TowerSelection:
    """The selection that keeps all parts."""
    return TowerSelection(
        layers=tuple(range(shape.num_layers)),
        embedding=tuple(range(shape.width)),
        heads=tuple(tuple(range(heads)) for heads in shape.heads),
        channels=tuple(tuple(range(channels)) for channels in shape.channels),
    )


def _among(left: Numbers, numbers: Numbers) -> Numbers:
    return tuple(left[number] for number in numbers)


def choose_widths(plan: TowerPlan, shape: TowerShape, layers: Numbers) -> TowerShape:
    """The shape that a plan leaves of these layers."""
    width = num_kept_of("width", plan.width, shape.width, "embedding channels")
    # In a plain tower heads and FFN shrink with the width, unless the plan sets them.
    follows = shape.is_plain and width < shape.width
    heads, channels = [shape.heads[layer] for layer in layers], [shape.channels[layer] for layer in layers]
    if plan.heads:
        heads = _at_most(plan.heads, heads, "heads")
    elif follows:
        heads = [_heads_that_fill(width, shape.head_width)] * len(layers)
    if plan.channels:
        channels = _at_most(plan.channels, channels, "channels")
    elif follows:
        channels = [max(1, shape.channels[0] * width // shape.width)] * len(layers)
    return TowerShape(width=width, head_width=shape.head_width, heads=tuple(heads), channels=tuple(channels))


def choose_channels(
    rule: WidthRule, source: TowerShape, target: TowerShape, layers: Numbers, blocks: Sequence[Weights]
) -> TowerSelection:
    """The channels and heads to keep of these layers, with weights ``blocks``, to get the target's shape."""
    if rule == "leading":
        return full_selection(target).model_copy(update={"layers": layers})
    embedding = _largest(embedding_magnitudes(blocks).tolist(), target.width)
    heads, channels = [], []
    for number, block in enumerate(blocks):
        scores = head_magnitudes(block, source.head_width).tolist() if "attn.out_proj.weight" in block else []
        heads.append(_largest(scores, target.heads[number]))
        scores = channel_magnitudes(block).tolist() if "mlp.c_proj.weight" in block else []
        channels.append(_largest(scores, target.channels[number]))
    return TowerSelection(layers=layers, embedding=embedding, heads=tuple(heads), channels=tuple(channels))


def _at_most(wanted: int | float, available: list[int], what: str) -> list[int]:
    """How many parts each layer keeps; a layer with fewer keeps all."""
    if isinstance(wanted, float):
        return [num_kept_of(what, wanted, own, what) if own else 0 for own in available]
    num_kept_of(what, wanted, max(available), f"{what} in a layer")
    return [min(wanted, own) for own in available]


def _heads_that_fill(width: int, head_width: int) -> int:
    heads, rest = divmod(width, head_width)
    if rest:
        near = [str(n * head_width) for n in (heads, heads + 1) if n]
        raise ValueError(
            f"width {width} is not a multiple of the head size {head_width}: choose {' or '.join(near)}, "
            "or set the number of heads to keep with heads="
        )
    return heads


def _largest(scores: list[float], num_kept: int) -> Numbers:
    """Numbers of the largest scores, ascending; ties go to the first."""
    ranked = sorted(range(len(scores)), key=lambda number: -scores[number])
    return tuple(sorted(ranked[:num_kept]))
