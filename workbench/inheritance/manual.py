"""Whether what was learnt to stay is what a rule would have kept."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from workbench.config.inheritance import TOWERS, Plan, Tower, TowerPlan, TowerShape, WidthRule
from workbench.inheritance.resnet import shrink_resnet
from workbench.inheritance.selection import (
    Numbers,
    Selection,
    TowerSelection,
    choose_channels,
    choose_layers,
    choose_widths,
    layer_norms,
)
from workbench.inheritance.slicing import BLOCKS, Weights, rebuilt, take
from workbench.models.clip import Clip
from workbench.models.shapes import tower_shape
from workbench.models.towers import split_weights
from workbench.runs.mask_snapshots import KeptIndices, MaskSnapshot
from workbench.views.architecture import Overlap, tower_overlaps

# Manual inheritance: a plan says which layers and channels of the teacher the student starts from.

Scores = Mapping[Tower, Sequence[float]]


def inherit(teacher: Clip, plan: Plan, importance: Scores | None = None) -> Clip:
    """A student that starts from what a plan keeps of the teacher; its embeddings are as wide as the teacher's.

    Args:
        teacher: not changed, and shares no weight with the student.
        importance: of every layer, for the depth rule "importance"; by their weights where left out
            (:func:`~workbench.inheritance.selection.layer_norms`).

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
        scores = (importance or {}).get(tower) or [layer_norms(block) for block in blocks]
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


def overlaps(one: TowerSelection, other: TowerSelection, source: TowerShape) -> dict[str, Overlap]:
    """The share of ``one`` that ``other`` keeps too, for "embedding", "heads" and "channels" of the same source."""
    return tower_overlaps(_by_source_layer(one, source), _by_source_layer(other, source), source)


def by_rule(teacher: Clip, learnt: Selection, rule: WidthRule) -> Selection:
    """What a rule would have kept of the teacher, had it been told how many of each to keep in every layer."""
    chosen: Selection = {}
    for tower, selection in learnt.items():
        source = tower_shape(teacher.config, tower)
        blocks = blocks_of(teacher, tower)
        kept = [blocks[layer] for layer in selection.layers]
        chosen[tower] = choose_channels(rule, source, selection.shape(source), selection.layers, kept)
    return chosen


def overlaps_with_rule(teacher: Clip, snapshot: MaskSnapshot, rule: WidthRule) -> dict[Tower, dict[str, Overlap]]:
    """The share of what a run's masks keep that a rule would have kept too, were it told how many of each.

    Raises:
        ValueError: the masks are of another teacher.
    """
    for tower, mask in snapshot.towers.items():
        if tower_shape(teacher.config, tower) != mask.teacher:
            raise ValueError(f"the {tower} tower of the teacher has changed since: the masks do not fit it")
    learnt = {tower: _selection(mask.kept) for tower, mask in snapshot.towers.items()}
    ruled = by_rule(teacher, learnt, rule)
    return {tower: overlaps(learnt[tower], ruled[tower], mask.teacher) for tower, mask in snapshot.towers.items()}


def _selection(kept: KeptIndices) -> TowerSelection:
    layers = tuple(range(len(kept.heads)))
    return TowerSelection(layers=layers, embedding=kept.embedding, heads=kept.heads, channels=kept.channels)


def _by_source_layer(selection: TowerSelection, source: TowerShape) -> KeptIndices:
    """What stays, with a place for every layer of the source."""
    at = {layer: number for number, layer in enumerate(selection.layers)}

    def placed(parts: tuple[Numbers, ...]) -> tuple[Numbers, ...]:
        return tuple(parts[at[layer]] if layer in at else () for layer in range(source.num_layers))

    return KeptIndices(selection.embedding, placed(selection.heads), placed(selection.channels))
