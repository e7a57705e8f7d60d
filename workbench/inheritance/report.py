"""What an inherited model is: the size, shape, arithmetic and latency of both towers."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import quantiles

import torch

from workbench.config.shape import TOWERS, Tower, TowerShape
from workbench.inheritance.costs import multiply_accumulates
from workbench.models.clip import Clip
from workbench.models.counting import count_parameters
from workbench.models.shapes import tower_shape, why_not_a_transformer, with_shape
from workbench.runs.mask_snapshots import MaskSnapshot

WARM_UPS = 3  # forwards before any is timed


@dataclass(frozen=True)
class TowerReport:
    """One tower in numbers."""

    shape: TowerShape | None  # of a transformer
    block_parameters: int
    embedding_parameters: int
    multiply_accumulates: int | None  # of one picture or text; None for the towers of other libraries


def describe(model: Clip) -> dict[Tower, TowerReport]:
    """Both towers in numbers."""
    return {tower: _describe_tower(model, tower) for tower in TOWERS}


def _describe_tower(model: Clip, tower: Tower) -> TowerReport:
    sizes = count_parameters(model, tower)
    is_transformer = not why_not_a_transformer(model.config, tower)
    try:
        cost = multiply_accumulates(model.config, tower)
    except ValueError:
        cost = None
    shape = tower_shape(model.config, tower) if is_transformer else None
    return TowerReport(shape, sizes["blocks"], sizes["embeddings"], cost)


@dataclass(frozen=True)
class Latency:
    """How long one forward takes, in milliseconds: half of those measured lie between ``low_ms`` and ``high_ms``."""

    median_ms: float
    low_ms: float
    high_ms: float


def measure_latency(models: Sequence[Clip], tower: Tower, batch_size: int = 1, repeats: int = 30) -> list[Latency]:
    """The time of a forward of one tower of each model, on the device where it is, after a warm-up.

    The models take turns, so that what else the machine does meanwhile meets them all alike.

    Args:
        repeats: at least 2.
    """
    forwards = [_forward(model, tower, batch_size) for model in models]
    were_training = [model.training for model in models]
    for model in models:
        model.eval()
    times_ms = [[forward() for forward in forwards] for _ in range(WARM_UPS + repeats)]
    for model, was_training in zip(models, were_training, strict=True):
        model.train(was_training)
    found = []
    for own_ms in zip(*times_ms[WARM_UPS:], strict=True):
        low_ms, median_ms, high_ms = quantiles(own_ms, n=4, method="inclusive")
        found.append(Latency(median_ms, low_ms, high_ms))
    return found


def _forward(model: Clip, tower: Tower, batch_size: int) -> Callable[[], float]:
    """A forward of one tower that says how many milliseconds it took."""
    device = model.scale.device
    if tower == "image":
        size = (batch_size, 3, model.image_size, model.image_size)
        inputs = torch.zeros(size, dtype=torch.uint8, device=device)
    else:
        inputs = model.tokenizer(["a photo"] * batch_size).to(device)
    encode = model.encode_image if tower == "image" else model.encode_text

    @torch.no_grad()
    def forward() -> float:
        start = time.perf_counter()
        encode(inputs)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - start) * 1e3

    return forward


def student_at(snapshot: MaskSnapshot, source: Clip, newest: Clip) -> Clip:
    """A student as large as it was, or would have been, at a snapshot: to count and to time.

    Args:
        snapshot: of its masks.
        source: what it inherits from.
        newest: the student by now; returned if it has these shapes. Otherwise weights are random, and of a layer that
            keeps neither heads nor channels not even the biases are there.

    Raises:
        ValueError: the source is not what the masks are of.
    """
    for tower, mask in snapshot.towers.items():
        if why_not_a_transformer(source.config, tower) or tower_shape(source.config, tower) != mask.teacher:
            raise ValueError(f"the {tower} tower of what this run inherits from has changed since: nothing to compare")
    shapes = {tower: _without_empty_layers(mask.student) for tower, mask in snapshot.towers.items()}
    if all(_without_empty_layers(tower_shape(newest.config, tower)) == shape for tower, shape in shapes.items()):
        return newest
    config = newest.config
    for tower, shape in shapes.items():
        config = with_shape(config, tower, shape)
    return Clip(config, newest.tokenizer, mean=newest.mean, std=newest.std)


def _without_empty_layers(shape: TowerShape) -> TowerShape:
    """One empty layer is left where all are: a tower has at least one."""
    layers = [layer for layer in zip(shape.heads, shape.channels, strict=True) if any(layer)] or [(0, 0)]
    heads, channels = zip(*layers, strict=True)
    return TowerShape(width=shape.width, head_width=shape.head_width, heads=heads, channels=channels)
