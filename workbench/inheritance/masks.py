"""The hard concrete distribution of gates, and masks from learned gates: which heads, FFN and embedding channels stay.

The gates follow Louizos et al., "Learning sparse neural networks through L0 regularization" (2018), with TinyCLIP's
constants. log α of a tower's gates is a mapping of "embedding" [C], "heads" [H] and "channels" [F], where heads and
channels of all layers are concatenated. Within a group and layer, the gates with the largest log α stay; ties go to
the first.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.config.inheritance import Tower, TowerShape
from workbench.inheritance.selection import Numbers, TowerSelection

BETA = 2 / 3  # temperature of the concrete distribution
GAMMA, ZETA = -0.1, 1.1  # the sigmoid is stretched to this interval, then clipped, so that 0 and 1 have positive mass
INITIAL_LOG_ALPHA = 10.0  # all gates open: the model starts as the teacher
MAX_LOG_ALPHA = math.log(100)  # log α is clamped to ± this, as in the code of Louizos et al.
EPSILON = 1e-6  # keeps the logit of the noise finite


def sample_gates(log_alpha: Tensor, uniform: Tensor) -> Tensor:
    """Hard-concrete sample z = clip(1.2·σ((logit u + log α)/β) − 0.1, 0, 1), for u uniform in (0, 1)."""
    concrete = torch.sigmoid((torch.logit(uniform, EPSILON) + log_alpha) / BETA)
    return (concrete * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def open_probability(log_alpha: Tensor) -> Tensor:
    """P(z ≠ 0) = σ(log α + β·ln 11), the probability that a gate is open."""
    return torch.sigmoid(log_alpha + BETA * math.log(-ZETA / GAMMA))


def deterministic_gates(log_alpha: Tensor) -> Tensor:
    """The deterministic value of an open gate, used in evaluation: σ(0.8·log α/β)."""
    return torch.sigmoid(0.8 * log_alpha / BETA)


LogAlphas = Mapping[str, Tensor]
GROUPS = ("embedding", "heads", "channels")
MAX_SHIFT, BISECTIONS = 64.0, 40  # of the search for the shift that fits a budget


@dataclass(frozen=True)
class TowerMasks:
    """Boolean masks of one tower, True for an open gate: embedding [C], heads [H], channels [F]."""

    embedding: Tensor
    heads: Tensor
    channels: Tensor

    def num_weights(self, shape: TowerShape) -> int:
        """Attention and FFN weights that stay."""
        inner = 4 * shape.head_width * int(self.heads.sum()) + 2 * int(self.channels.sum())
        return inner * int(self.embedding.sum())

    def selection(self, shape: TowerShape) -> TowerSelection:
        """The parts that stay of a tower of this shape. All layers stay, some possibly with biases only."""
        return TowerSelection(
            layers=tuple(range(shape.num_layers)),
            embedding=_numbers(self.embedding),
            heads=tuple(_numbers(mask) for mask in torch.split(self.heads, list(shape.heads))),
            channels=tuple(_numbers(mask) for mask in torch.split(self.channels, list(shape.channels))),
        )


Masks = Mapping[Tower, TowerMasks]


def expected_masks(shape: TowerShape, log_alphas: LogAlphas, shift: float = 0.0) -> TowerMasks:
    """Masks that close the expected number of gates, round(Σ P(z = 0)), per group and layer, by ascending log α.

    At least one embedding channel stays.

    Args:
        shift: subtracted from every log α first.
    """
    # A common shift multiplies the odds of every gate being open by the same factor.
    embedding, heads, channels = (log_alphas[group] - shift for group in GROUPS)
    return TowerMasks(
        _expected_mask(embedding, (shape.width,), at_least=1),
        _expected_mask(heads, shape.heads),
        _expected_mask(channels, shape.channels),
    )


def final_masks(shapes: Mapping[Tower, TowerShape], log_alphas: Mapping[Tower, LogAlphas], budget: int) -> Masks:
    """Masks with at most ``budget`` attention and FFN weights in all towers, and no room for another gate.

    All log α are shifted by the smallest common number for which :func:`expected_masks` fit the budget. Where training
    met the sparsity target this changes nothing; elsewhere every group and layer shrinks in proportion. Closed gates
    are then opened in order of log α as long as one fits into the rest of the budget.
    """

    def masks_at(shift: float) -> Masks:
        return {tower: expected_masks(shape, log_alphas[tower], shift) for tower, shape in shapes.items()}

    def fits(masks: Masks) -> bool:
        return sum(mask.num_weights(shapes[tower]) for tower, mask in masks.items()) <= budget

    # The number of open gates never grows with the shift, so bisection finds the smallest one that fits.
    low, high = -MAX_SHIFT, MAX_SHIFT
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(masks_at(middle)) else (middle, high)
    masks = masks_at(high)
    _fill(shapes, log_alphas, masks, budget)
    return masks


def _fill(shapes: Mapping[Tower, TowerShape], log_alphas: Mapping[Tower, LogAlphas], masks: Masks, budget: int) -> None:
    """Open closed gates that still fit the budget, in place, in order of log α over all groups, layers and towers."""
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
    """Weights that opening one more gate adds, given the numbers of open gates."""
    if group == "embedding":
        return 4 * head_width * heads + 2 * channels
    return embedding * (4 * head_width if group == "heads" else 2)


def _expected_mask(log_alpha: Tensor, sizes: Numbers, at_least: int = 0) -> Tensor:
    """The mask of one group, [sum of sizes]; ``sizes`` are the numbers of gates per layer."""
    size = torch.tensor(sizes, device=log_alpha.device)
    layer = torch.repeat_interleave(size)
    order = log_alpha.argsort(descending=True, stable=True)
    order = order[layer[order].argsort(stable=True)]  # by layer, within a layer by descending log α: stable sorts
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - (size.cumsum(0) - size)[layer]
    # float64, so that the rounding below does not depend on the order of summation.
    closed = torch.zeros(len(sizes), device=layer.device, dtype=torch.float64)
    closed.index_add_(0, layer, 1 - open_probability(log_alpha.double()))
    num_open = (size - closed.round()).clamp(min=at_least)
    return rank < num_open[layer]


def _listed(log_alpha: Tensor, mask: Tensor) -> list[tuple[float, bool]]:
    return list(zip(log_alpha.tolist(), mask.tolist(), strict=True))


def _numbers(mask: Tensor) -> Numbers:
    return tuple(mask.nonzero().flatten().tolist())
