"""Manual inheritance: a plan says which layers and channels of the teacher the student starts from."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from workbench.config.inheritance import Plan, TowerPlan
from workbench.config.shape import TOWERS, Tower, TowerShape
from workbench.inheritance.depth import choose_layers
from workbench.inheritance.resnet import shrink_resnet
from workbench.inheritance.scores import layer_loudness
from workbench.inheritance.selection import Selection, TowerSelection
from workbench.inheritance.slicing import BLOCKS, Weights, rebuilt, take
from workbench.inheritance.width import choose_channels, choose_widths
from workbench.models.clip import Clip
from workbench.models.shapes import tower_shape
from workbench.models.towers import split_weights

Scores = Mapping[Tower, Sequence[float]]


def inherit(teacher: Clip, plan: Plan, importance: Scores | None = None) -> Clip:
    """A student that starts from what a plan keeps of the teacher; its embeddings are as wide as the teacher's.

    Args:
        teacher: not changed, and shares no weight with the student.
        importance: of every layer, for the depth rule "importance"; by their weights where left out
            (:func:`~workbench.inheritance.scores.layer_loudness`).

    Raises:
        ValueError: the plan cannot be, with the reason.
    """
    student = take(_with_smaller_resnet(teacher, plan), choose(teacher, plan, importance))
    if plan.frozen:
        student.freeze(plan.frozen)
    return student


def choose(teacher: Clip, plan: Plan, importance: Scores | None = None) -> Selection:
    """What a plan keeps of the teacher's transformer towers; towers that stay whole, and ResNets, are left out.

    Raises:
        ValueError: as :func:`inherit`.
    """
    selection: Selection = {}
    for tower in TOWERS:
        tower_plan: TowerPlan = getattr(plan, tower)
        if tower_plan.keeps_all or _is_resnet(teacher, tower):
            continue
        shape = tower_shape(teacher.config, tower)
        blocks = blocks_of(teacher, tower)
        scores = (importance or {}).get(tower) or [layer_loudness(block) for block in blocks]
        with _about(tower):
            selection[tower] = _choose_in_tower(tower_plan, shape, blocks, scores)
    return selection


def blocks_of(model: Clip, tower: Tower) -> list[Weights]:
    """The weights of every block of a transformer tower, under their names in it."""
    weights = split_weights(model.towers.state_dict())[tower]
    prefixes = [f"{BLOCKS}.{layer}." for layer in range(tower_shape(model.config, tower).num_layers)]
    return [
        {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        for prefix in prefixes
    ]


def _choose_in_tower(
    plan: TowerPlan, shape: TowerShape, blocks: list[Weights], scores: Sequence[float]
) -> TowerSelection:
    if len(scores) != shape.num_layers:
        raise ValueError(f"importance of {len(scores)} layers, but the teacher has {shape.num_layers}: score each one")
    layers = choose_layers(plan, shape.num_layers, scores)
    target = choose_widths(plan, shape, layers)
    return choose_channels(plan.width_rule, shape, target, layers, [blocks[layer] for layer in layers])


def _is_resnet(model: Clip, tower: Tower) -> bool:
    return tower == "image" and isinstance(model.config["vision_cfg"].get("layers"), list | tuple)


def _with_smaller_resnet(teacher: Clip, plan: Plan) -> Clip:
    if plan.image.keeps_all or not _is_resnet(teacher, "image"):
        return teacher
    parts = split_weights(teacher.towers.state_dict())
    with _about("image"):
        config, parts["image"] = shrink_resnet(parts["image"], teacher.config, plan.image)
    return rebuilt(teacher, config, parts)


@contextmanager
def _about(tower: Tower) -> Iterator[None]:
    """Errors within it say which tower they are about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{tower} tower: {error}") from None
