"""How wide an inherited transformer tower is, and which of the teacher's channels and heads it keeps."""

from collections.abc import Sequence

from workbench.config.inheritance import TowerPlan, WidthRule
from workbench.config.shape import TowerShape
from workbench.inheritance.depth import amount
from workbench.inheritance.scores import Weights, channel_magnitudes, embedding_magnitudes, head_magnitudes
from workbench.inheritance.selection import Numbers, TowerSelection


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
