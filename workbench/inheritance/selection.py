"""How wide an inherited transformer tower is, and which of the teacher's channels and heads it keeps."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.config.base import Config
from workbench.config.inheritance import TOWERS, Tower, TowerPlan, TowerShape, WidthRule
from workbench.models.clip import Clip
from workbench.models.towers import holder

# Which layers of a tower a student inherits.


def amount(setting: str, wanted: int | float, available: int, what: str) -> int:
    """How many of ``available`` a plan keeps: 0 keeps all, a number below 1 is a share.

    Raises:
        ValueError: there are fewer.
    """
    if not wanted:
        return available
    if isinstance(wanted, float):
        return max(1, round(wanted * available))
    if wanted > available:
        raise ValueError(f"{setting} {wanted}: the teacher has {available} {what}, choose 1 to {available}")
    return wanted


def choose_layers(plan: TowerPlan, num_layers: int, scores: Sequence[float]) -> tuple[int, ...]:
    """The numbers of the layers to keep, ascending.

    Args:
        scores: how much each layer matters, for the rule "importance".

    Raises:
        ValueError: the plan wants layers that the tower does not have.
    """
    if isinstance(plan.depth, tuple):
        return _checked(plan.depth, num_layers)
    num_kept = amount("depth", plan.depth, num_layers, "layers")
    match plan.depth_rule:
        case "released_stride":
            step = num_layers // num_kept
            return tuple(range(0, step * num_kept, step))
        case "first":
            return tuple(range(num_kept))
        case "last":
            return tuple(range(num_layers - num_kept, num_layers))
        case "importance":
            ranked = sorted(range(num_layers), key=lambda layer: -scores[layer])
            return tuple(sorted(ranked[:num_kept]))
        case "even":
            return tuple(
                (2 * n * (num_layers - 1) + num_kept - 1) // max(1, 2 * (num_kept - 1)) for n in range(num_kept)
            )


def _checked(layers: tuple[int, ...], num_layers: int) -> tuple[int, ...]:
    if missing := [layer for layer in layers if layer >= num_layers]:
        raise ValueError(f"depth names layer {missing[0]}: the teacher has layers 0 to {num_layers - 1}")
    if list(layers) != sorted(set(layers)):
        raise ValueError(f"depth names layers {list(layers)}: name each once, in ascending order")
    return layers


# How much the layers, channels and heads of a tower matter: from their weights, or from what they do to data.
#
# Shape letters: T tokens of a tower, C its embedding channels, H heads, W channels of a head, F FFN channels.

Weights = Mapping[str, Tensor]


def layer_norms(block: Weights) -> float:
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


# Which parts of a transformer tower stay: numbers in the tower they are taken from.

Numbers = tuple[int, ...]


class TowerSelection(Config):
    """What stays of one tower. All numbers count from 0 and ascend."""

    layers: Numbers
    """The layers that stay, those that keep nothing but a bias included."""
    embedding: Numbers
    """The embedding channels that stay, in all layers."""
    heads: tuple[Numbers, ...]
    """For each layer that stays, its attention heads that do."""
    channels: tuple[Numbers, ...]
    """For each layer that stays, its FFN channels that do."""

    def shape(self, source: TowerShape) -> TowerShape:
        """The shape of what stays."""
        return TowerShape(
            width=len(self.embedding),
            head_width=source.head_width,
            heads=tuple(len(heads) for heads in self.heads),
            channels=tuple(len(channels) for channels in self.channels),
        )

    def by_source_layer(self, source: TowerShape) -> TowerShape:
        """The same shape with a place for every layer of the source; those that went have nothing in theirs."""
        heads, channels = [0] * source.num_layers, [0] * source.num_layers
        for layer, own_heads, own_channels in zip(self.layers, self.heads, self.channels, strict=True):
            heads[layer], channels[layer] = len(own_heads), len(own_channels)
        return TowerShape(
            width=len(self.embedding), head_width=source.head_width, heads=tuple(heads), channels=tuple(channels)
        )

    def then(self, later: "TowerSelection") -> "TowerSelection":
        """What stays of the source when ``later`` chooses among what this one left."""
        return TowerSelection(
            layers=_among(self.layers, later.layers),
            embedding=_among(self.embedding, later.embedding),
            heads=tuple(_among(self.heads[n], kept) for n, kept in zip(later.layers, later.heads, strict=True)),
            channels=tuple(
                _among(self.channels[n], kept) for n, kept in zip(later.layers, later.channels, strict=True)
            ),
        )


Selection = dict[Tower, TowerSelection]


def everything(shape: TowerShape) -> TowerSelection:
    """The selection that leaves a tower as it is."""
    return TowerSelection(
        layers=tuple(range(shape.num_layers)),
        embedding=tuple(range(shape.width)),
        heads=tuple(tuple(range(heads)) for heads in shape.heads),
        channels=tuple(tuple(range(channels)) for channels in shape.channels),
    )


def _among(left: Numbers, numbers: Numbers) -> Numbers:
    return tuple(left[number] for number in numbers)


def choose_widths(plan: TowerPlan, shape: TowerShape, layers: Numbers) -> TowerShape:
    """The shape that a plan leaves of these layers.

    Raises:
        ValueError: the plan wants more than there is, or a width that no whole number of heads fills.
    """
    width = amount("width", plan.width, shape.width, "embedding channels")
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
    """Which channels and heads of these layers, whose weights are ``blocks``, make up the target's shape."""
    if rule == "leading":
        return TowerSelection(
            layers=layers,
            embedding=tuple(range(target.width)),
            heads=tuple(tuple(range(heads)) for heads in target.heads),
            channels=tuple(tuple(range(channels)) for channels in target.channels),
        )
    embedding = _largest(embedding_magnitudes(blocks).tolist(), target.width)
    heads, channels = [], []
    for number, block in enumerate(blocks):
        scores = head_magnitudes(block, source.head_width).tolist() if "attn.out_proj.weight" in block else []
        heads.append(_largest(scores, target.heads[number]))
        scores = channel_magnitudes(block).tolist() if "mlp.c_proj.weight" in block else []
        channels.append(_largest(scores, target.channels[number]))
    return TowerSelection(layers=layers, embedding=embedding, heads=tuple(heads), channels=tuple(channels))


def _at_most(wanted: int | float, available: list[int], what: str) -> list[int]:
    """What every layer keeps; one that has fewer than wanted keeps what it has."""
    if isinstance(wanted, float):
        return [amount(what, wanted, own, what) if own else 0 for own in available]
    amount(what, wanted, max(available), f"{what} in a layer")
    return [min(wanted, own) for own in available]


def _heads_that_fill(width: int, head_width: int) -> int:
    heads, rest = divmod(width, head_width)
    if rest:
        near = [str(n * head_width) for n in (heads, heads + 1) if n]
        raise ValueError(
            f"width {width} is not a multiple of the head size {head_width}: choose {' or '.join(near)}, "
            "or say how many heads to keep with heads="
        )
    return heads


def _largest(scores: list[float], num_kept: int) -> Numbers:
    """The numbers of the largest scores, ascending; of equal ones the first."""
    ranked = sorted(range(len(scores)), key=lambda number: -scores[number])
    return tuple(sorted(ranked[:num_kept]))
