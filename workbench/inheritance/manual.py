"""Manual inheritance: a student from the layers and channels that a plan keeps; overlap of learned masks with it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from workbench.config.inheritance import TOWERS, Plan, Tower, TowerPlan, TowerShape, WidthRule
from workbench.inheritance.resnet import shrink_resnet
from workbench.inheritance.selection import (
    Selection,
    TowerSelection,
    choose_channels,
    choose_layers,
    choose_widths,
    weight_importance,
)
from workbench.inheritance.slicing import BLOCKS, Weights, build_student, slice_towers
from workbench.models.clip import Clip
from workbench.models.configs import tower_shape
from workbench.models.towers import split_weights
from workbench.runs.snapshots import KeptIndices, MaskSnapshot
from workbench.views.architecture import Overlap, tower_overlaps

Scores = Mapping[Tower, Sequence[float]]


def inherit(teacher: Clip, plan: Plan, importance: Scores | None = None) -> Clip:
    """A student initialized with the parts of the teacher that a plan keeps; the embedding width stays the teacher's.

    Args:
        teacher: not modified; shares no memory with the student.
        importance: a score per layer, for the depth rule "importance"; by default from the weights
            (:func:`~workbench.inheritance.selection.weight_importance`).

    Raises:
        ValueError: the plan does not fit the teacher, with the reason.
    """
    student = slice_towers(_with_smaller_resnet(teacher, plan), choose(teacher, plan, importance))
    if plan.frozen:
        student.freeze(plan.frozen)
    return student


def choose(teacher: Clip, plan: Plan, importance: Scores | None = None) -> Selection:
    """The parts of the teacher's transformer towers that a plan keeps; unchanged towers and ResNets are left out."""
    selection: Selection = {}
    for tower in TOWERS:
        tower_plan: TowerPlan = getattr(plan, tower)
        if tower_plan.keeps_all or _is_resnet(teacher, tower):
            continue
        shape = tower_shape(teacher.config, tower)
        blocks = blocks_of(teacher, tower)
        scores = (importance or {}).get(tower) or [weight_importance(block) for block in blocks]
        with _about(tower):
            selection[tower] = _choose_in_tower(tower_plan, shape, blocks, scores)
    return selection


def blocks_of(model: Clip, tower: Tower) -> list[Weights]:
    """Weights of each block of a transformer tower, by their names within the block."""
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
        raise ValueError(f"importance scores {len(scores)} layers, the teacher has {shape.num_layers}: score each one")
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
    return build_student(teacher, config, parts)


@contextmanager
def _about(tower: Tower) -> Iterator[None]:
    """Prefix errors with the tower's name."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{tower} tower: {error}") from None


def overlaps_with_rule(teacher: Clip, snapshot: MaskSnapshot, rule: WidthRule) -> dict[Tower, dict[str, Overlap]]:
    """Share of the parts kept by a run's masks that a rule would keep too, with the same number per layer."""
    found: dict[Tower, dict[str, Overlap]] = {}
    for tower, mask in snapshot.towers.items():
        if tower_shape(teacher.config, tower) != mask.teacher:
            raise ValueError(f"the {tower} tower of the teacher has changed since: the masks do not fit it")
        layers = tuple(range(mask.teacher.num_layers))
        ruled = choose_channels(rule, mask.teacher, mask.student, layers, blocks_of(teacher, tower))
        kept_by_rule = KeptIndices(ruled.embedding, ruled.heads, ruled.channels)
        found[tower] = tower_overlaps(mask.kept, kept_by_rule, mask.teacher)
    return found
