"""Manual inheritance: a student from the layers and channels that a plan keeps; overlap of learned masks with a rule.

A transformer is sliced by a selection. In open_clip's ModifiedResNet, stages keep fewer blocks, and all channels shrink
in proportion. Its channels form streams: tensors that are added together, or read by the next convolution, must keep
the same channels.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from workbench.config.inheritance import TOWERS, Plan, Tower, TowerPlan, TowerShape, WidthRule
from workbench.inheritance.selection import (
    Selection,
    TowerSelection,
    choose_channels,
    choose_layers,
    choose_widths,
    num_kept_of,
    weight_importance,
)
from workbench.inheritance.slicing import BLOCKS, Weights, build_student, slice_towers
from workbench.models.clip import Clip
from workbench.models.configs import Config, tower_settings, tower_shape
from workbench.models.towers import split_weights
from workbench.runs.snapshots import KeptIndices, MaskSnapshot
from workbench.views.architecture import Overlap, tower_overlaps

Scores = Mapping[Tower, Sequence[float]]
POOLED = "pooled"  # stream between the projections of the attention pooling, kept or dropped by heads
LAST = "stage 4"


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


class Convolution(NamedTuple):
    """A convolution with its batch norm, and the streams that it reads (empty: the image) and writes."""

    weight: str
    norm: str
    reads: str
    writes: str
    becomes: str = ""  # name prefix of its block in the smaller tower
    within: str = ""  # and in this one


def shrink_resnet(weights: Weights, config: Config, plan: TowerPlan) -> tuple[Config, Weights]:
    """The model config and the image tower's weights of a ModifiedResNet reduced by a plan."""
    vision = tower_settings(config, "image")
    if plan.heads or plan.channels:
        raise ValueError("heads and channels of a ResNet follow its width: leave them out")
    kept = _choose_blocks(weights, plan, vision.layers)
    width = num_kept_of("width", plan.width, vision.width, "channels in its stem")
    head_width = 32 * vision.width // (vision.width * 32 // vision.head_width)
    if width % 2 or 32 * width % head_width:
        raise ValueError(
            f"width {width} of a ResNet: choose an even one, of which 32 times is a multiple of {head_width}"
        )
    convolutions = list(_convolutions(kept))
    streams = _choose_channels(weights, convolutions, plan.width_rule, width / vision.width, head_width)
    sliced = _slice(weights, convolutions, streams)
    layers = [len(blocks) for blocks in kept]
    return config | {"vision_cfg": config["vision_cfg"] | {"layers": layers, "width": width}}, sliced


def _choose_blocks(weights: Weights, plan: TowerPlan, layers: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Blocks to keep per stage. The first of a stage always stays: it changes width and resolution."""
    if plan.depth_rule == "last":
        raise ValueError(
            "depth_rule last drops the first block of a stage, which changes its width: choose another rule"
        )
    kept = []
    for stage, (depth, num_blocks) in enumerate(zip(_depths(plan, len(layers)), layers, strict=True), start=1):
        num_kept = num_kept_of(f"depth of stage {stage}", depth, num_blocks, "blocks")
        gains = [float(weights[f"layer{stage}.{block}.bn3.weight"].norm()) for block in range(1, num_blocks)]
        # The last batch norm of a block scales all that it adds to the residual stream: its norm is the importance.
        stage_plan = plan.model_copy(update={"depth": num_kept})
        kept.append(choose_layers(stage_plan, num_blocks, [float("inf"), *gains]))
    return kept


def _depths(plan: TowerPlan, num_stages: int) -> Sequence[int | float]:
    if isinstance(plan.depth, tuple) and len(plan.depth) == num_stages and all(plan.depth):
        return plan.depth
    if isinstance(plan.depth, float) or plan.depth == 0:
        return (plan.depth,) * num_stages
    raise ValueError(f"depth of a ResNet is a share, or for each of its {num_stages} stages how many blocks to keep")


def _convolutions(kept: list[tuple[int, ...]]) -> Iterator[Convolution]:
    yield Convolution("conv1", "bn1", "", "stem 1")
    yield Convolution("conv2", "bn2", "stem 1", "stem 2")
    yield Convolution("conv3", "bn3", "stem 2", "stem 3")
    before = "stem 3"
    for stage, blocks in enumerate(kept, start=1):
        after = f"stage {stage}"
        for number, block in enumerate(blocks):
            old, new = f"layer{stage}.{block}.", f"layer{stage}.{number}."
            inner = f"{after}, block {block}, "
            yield Convolution("conv1", "bn1", before, inner + "1", new, old)
            yield Convolution("conv2", "bn2", inner + "1", inner + "2", new, old)
            yield Convolution("conv3", "bn3", inner + "2", after, new, old)
            if number == 0:
                yield Convolution("downsample.0", "downsample.1", before, after, new, old)
            before = after


def _choose_channels(
    weights: Weights, convolutions: list[Convolution], rule: str, share: float, head_width: int
) -> dict[str, Tensor]:
    """Channels to keep per stream, ascending."""
    # A channel's score sums over everything that writes or reads its stream, as all of it is kept or dropped together.
    squares: dict[str, Tensor] = {}

    def add(stream: str, values: Tensor) -> None:
        squares[stream] = squares.get(stream, torch.zeros_like(values)) + values

    for convolution in convolutions:
        weight = weights[f"{convolution.within}{convolution.weight}.weight"].square()
        add(convolution.writes, weight.sum(dim=(1, 2, 3)))
        if convolution.reads:
            add(convolution.reads, weight.sum(dim=(0, 2, 3)))
    for name in ("q_proj", "k_proj", "v_proj"):
        add(LAST, weights[f"attnpool.{name}.weight"].square().sum(dim=0))
        add(POOLED, weights[f"attnpool.{name}.weight"].square().sum(dim=1))
    add(POOLED, weights["attnpool.c_proj.weight"].square().sum(dim=0))

    kept = {}
    for stream, values in squares.items():
        unit = head_width if stream == POOLED else 1
        scores = values.reshape(-1, unit).sum(dim=1)
        if rule == "leading":
            scores = -torch.arange(len(scores), device=scores.device)
        # Stable, so that ties go to the first; then ascending, as the channels keep their order.
        chosen = scores.argsort(descending=True, stable=True)[: round(share * len(scores))].sort().values
        kept[stream] = (chosen[:, None] * unit + torch.arange(unit, device=chosen.device)).flatten()
    return kept


def _slice(weights: Weights, convolutions: list[Convolution], streams: dict[str, Tensor]) -> Weights:
    sliced: Weights = {}
    for convolution in convolutions:
        weight = weights[f"{convolution.within}{convolution.weight}.weight"][streams[convolution.writes]]
        if convolution.reads:
            weight = weight[:, streams[convolution.reads]]
        sliced[f"{convolution.becomes}{convolution.weight}.weight"] = weight
        norm, new_norm = (f"{prefix}{convolution.norm}." for prefix in (convolution.within, convolution.becomes))
        for name in ("weight", "bias", "running_mean", "running_var"):
            sliced[new_norm + name] = weights[norm + name][streams[convolution.writes]]
        sliced[new_norm + "num_batches_tracked"] = weights[norm + "num_batches_tracked"]
    for name in ("q_proj", "k_proj", "v_proj"):
        projection = weights[f"attnpool.{name}.weight"]
        sliced[f"attnpool.{name}.weight"] = projection[streams[POOLED]][:, streams[LAST]]
        sliced[f"attnpool.{name}.bias"] = weights[f"attnpool.{name}.bias"][streams[POOLED]]
    sliced["attnpool.c_proj.weight"] = weights["attnpool.c_proj.weight"][:, streams[POOLED]]
    sliced["attnpool.c_proj.bias"] = weights["attnpool.c_proj.bias"]
    sliced["attnpool.positional_embedding"] = weights["attnpool.positional_embedding"][:, streams[LAST]]
    return sliced
