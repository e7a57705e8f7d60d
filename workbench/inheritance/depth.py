"""Which layers of a tower a student inherits."""

from collections.abc import Sequence

from workbench.config.inheritance import TowerPlan


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
