"""From learned gates to masks: which heads, FFN channels and embedding channels stay.

log α of a tower's gates is a mapping of "embedding" [C], "heads" [H] and "channels" [F], the last two of all layers one
after another. Within a group and layer the gates with the largest log α stay; of equal ones the first."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.config.inheritance import Tower, TowerShape
from workbench.inheritance.selection import Numbers, TowerSelection

# The hard concrete distribution: a random gate between 0 and 1 that is often exactly one of them, and can be learned.
#
# Louizos et al., "Learning sparse neural networks through L0 regularization" (2018), with TinyCLIP's numbers.

BETA = 2 / 3
LOW, HIGH = -0.1, 1.1  # the sigmoid is stretched to this interval before it is cut to [0, 1]
START = 10.0  # of log α
LIMIT = math.log(100)  # log α stays within ± this
EPSILON = 1e-6  # keeps the logit of the noise finite


def draw(log_alpha: Tensor, uniform: Tensor) -> Tensor:
    """z = clip(1.2·σ((logit u + log α)/β) − 0.1, 0, 1), for u uniform between 0 and 1."""
    concrete = torch.sigmoid((torch.logit(uniform, EPSILON) + log_alpha) / BETA)
    return (concrete * (HIGH - LOW) + LOW).clamp(0, 1)


def open_probability(log_alpha: Tensor) -> Tensor:
    """P(z ≠ 0) = σ(log α + β·ln 11)."""
    return torch.sigmoid(log_alpha + BETA * math.log(-HIGH / LOW))


def settled(log_alpha: Tensor) -> Tensor:
    """What a gate that stays open is worth once nothing is drawn any more: σ(0.8·log α/β)."""
    return torch.sigmoid(0.8 * log_alpha / BETA)


LogAlphas = Mapping[str, Tensor]
GROUPS = ("embedding", "heads", "channels")
FARTHEST, BISECTIONS = 64.0, 40  # how far log α are shifted at most to fit a budget, and how finely


@dataclass(frozen=True)
class TowerMasks:
    """True for every gate of a tower that stays open."""

    embedding: Tensor
    heads: Tensor
    channels: Tensor

    def num_weights(self, shape: TowerShape) -> int:
        """The attention and FFN weights that stay."""
        inner = 4 * shape.head_width * int(self.heads.sum()) + 2 * int(self.channels.sum())
        return inner * int(self.embedding.sum())

    def selection(self, shape: TowerShape) -> TowerSelection:
        """What stays of a tower of this shape. Every layer does, if only as its biases."""
        return TowerSelection(
            layers=tuple(range(shape.num_layers)),
            embedding=_numbers(self.embedding),
            heads=tuple(_numbers(mask) for mask in torch.split(self.heads, list(shape.heads))),
            channels=tuple(_numbers(mask) for mask in torch.split(self.channels, list(shape.channels))),
        )


Masks = Mapping[Tower, TowerMasks]


def likely_masks(shape: TowerShape, log_alphas: LogAlphas, shift: float = 0.0) -> TowerMasks:
    """Of each group and layer, all but the round(Σ P(z = 0)) with the smallest log α; one embedding channel at least.

    Args:
        shift: taken from every log α beforehand.
    """
    embedding, heads, channels = (log_alphas[group] - shift for group in GROUPS)
    return TowerMasks(
        _likely(embedding, (shape.width,), at_least=1), _likely(heads, shape.heads), _likely(channels, shape.channels)
    )


def final_masks(shapes: Mapping[Tower, TowerShape], log_alphas: Mapping[Tower, LogAlphas], budget: int) -> Masks:
    """The masks that leave at most ``budget`` attention and FFN weights in all towers, and room for no gate more.

    All log α are shifted by one number, the smallest by which :func:`likely_masks` fit the budget: so the final masks
    are those of evaluation where the constraint has done its work, and where it has not, every group and layer gives in
    proportion to what it expects. What room is left then goes to closed gates, in order of log α, wherever one fits.
    """

    def masks_at(shift: float) -> Masks:
        return {tower: likely_masks(shape, log_alphas[tower], shift) for tower, shape in shapes.items()}

    def fits(masks: Masks) -> bool:
        return sum(mask.num_weights(shapes[tower]) for tower, mask in masks.items()) <= budget

    low, high = -FARTHEST, FARTHEST
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(masks_at(middle)) else (middle, high)
    masks = masks_at(high)
    _fill(shapes, log_alphas, masks, budget)
    return masks


def _fill(shapes: Mapping[Tower, TowerShape], log_alphas: Mapping[Tower, LogAlphas], masks: Masks, budget: int) -> None:
    """Open what still fits, in place, in order of log α over all groups, layers and towers."""
    closed = [
        (log_alpha, tower, group, index)
        for tower in shapes
        for group in GROUPS
        for index, (log_alpha, is_open) in enumerate(_listed(log_alphas[tower][group], getattr(masks[tower], group)))
        if not is_open
    ]
    counts = {tower: {group: int(getattr(mask, group).sum()) for group in GROUPS} for tower, mask in masks.items()}
    left = budget - sum(mask.num_weights(shapes[tower]) for tower, mask in masks.items())
    for _, tower, group, index in sorted(closed, key=lambda gate: -gate[0]):
        cost = _cost(group, shapes[tower].head_width, **counts[tower])
        if cost <= left:
            getattr(masks[tower], group)[index] = True
            counts[tower][group] += 1
            left -= cost


def _cost(group: str, head_width: int, *, embedding: int, heads: int, channels: int) -> int:
    """The weights that one gate more opens, beside so many of each."""
    if group == "embedding":
        return 4 * head_width * heads + 2 * channels
    return embedding * (4 * head_width if group == "heads" else 2)


def _likely(log_alpha: Tensor, sizes: Numbers, at_least: int = 0) -> Tensor:
    size = torch.tensor(sizes, device=log_alpha.device)
    layer = torch.repeat_interleave(size)
    order = log_alpha.argsort(descending=True, stable=True)
    order = order[layer[order].argsort(stable=True)]  # layer by layer, in each from the largest
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - (size.cumsum(0) - size)[layer]
    closed = torch.zeros(len(sizes), device=layer.device, dtype=torch.float64)
    closed.index_add_(0, layer, 1 - open_probability(log_alpha.double()))
    num_open = (size - closed.round()).clamp(min=at_least)
    return rank < num_open[layer]


def _listed(log_alpha: Tensor, mask: Tensor) -> list[tuple[float, bool]]:
    return list(zip(log_alpha.tolist(), mask.tolist(), strict=True))


def _numbers(mask: Tensor) -> Numbers:
    return tuple(mask.nonzero().flatten().tolist())
