"""Size, shape, multiply-accumulates and latency of a model's towers."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

import torch

from workbench.config.inheritance import TOWERS, Tower, TowerShape
from workbench.models.clip import Clip, count_parameters
from workbench.models.configs import Config, tower_settings, tower_shape, why_not_a_transformer, with_shape
from workbench.runs.snapshots import MaskSnapshot


def multiply_accumulates(config: Config, tower: Tower) -> int:
    """Multiply-accumulates of one forward of one tower: matrix products and convolutions, no norms or activations.

    Text attention is counted over all pairs of tokens, as it is computed in spite of the causal mask.

    Raises:
        ValueError: the tower is neither open_clip's transformer nor its ResNet.
    """
    settings = tower_settings(config, tower)
    if tower == "image" and isinstance(settings.layers, list | tuple):
        return _resnet(settings, config["embed_dim"])
    shape = tower_shape(config, tower)
    projection: int = shape.width * config["embed_dim"]
    if tower == "text":
        return transformer(shape, settings.context_length) + projection
    size = settings.image_size if isinstance(settings.image_size, int) else settings.image_size[0]
    num_patches: int = (size // settings.patch_size) ** 2
    patches: int = num_patches * 3 * settings.patch_size**2 * shape.width
    return patches + transformer(shape, num_patches + 1) + projection


def transformer(shape: TowerShape, num_tokens: int) -> int:
    """Multiply-accumulates of the blocks, for one sequence."""
    attended = 2 * num_tokens**2 * shape.head_width * sum(shape.heads)
    return num_tokens * shape.block_weights + attended


def _resnet(settings: Any, embed_dim: int) -> int:
    width, side = settings.width, settings.image_size // 2
    total = side**2 * 9 * (3 * (width // 2) + (width // 2) ** 2 + (width // 2) * width)
    side, before = side // 2, width
    for stage, num_blocks in enumerate(settings.layers):
        inner = width * 2**stage
        for block in range(num_blocks):
            total += side**2 * (before * inner + 9 * inner**2)
            side //= 2 if stage and not block else 1
            total += side**2 * 4 * inner * (inner if block else inner + before)
            before = 4 * inner
    num_tokens = side**2 + 1
    return int(total + num_tokens * (3 * before**2 + 2 * num_tokens * before + before * embed_dim))


WARM_UPS = 3  # untimed forwards


@dataclass(frozen=True)
class TowerReport:
    """Numbers of one tower."""

    shape: TowerShape | None  # None for other towers than transformers
    block_parameters: int
    embedding_parameters: int
    multiply_accumulates: int | None  # of one image or caption; None for towers of other libraries


def describe(model: Clip) -> dict[Tower, TowerReport]:
    """The numbers of both towers."""
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
    """Latency of one forward in milliseconds: median and quartiles (``low_ms``, ``high_ms``)."""

    median_ms: float
    low_ms: float
    high_ms: float


def measure_latency(models: Sequence[Clip], tower: Tower, batch_size: int = 1, repeats: int = 30) -> list[Latency]:
    """Latency of one tower of each model, on its current device, after a warm-up.

    Models are timed in turn, so that other load on the machine affects all of them equally.

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
    """A function that runs one tower once and returns the milliseconds it took."""
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
            torch.cuda.synchronize(device)  # kernels are asynchronous
        return (time.perf_counter() - start) * 1e3

    return forward


def student_at(snapshot: MaskSnapshot, source: Clip, newest: Clip) -> Clip:
    """A student of the size it had at a snapshot of its masks, for counting and timing.

    Args:
        snapshot: of its masks.
        source: the model that it inherits from.
        newest: the current student; returned if it has these shapes. Otherwise the weights are random, and layers
            without heads and channels are left out, biases included.
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
    """The shape without empty layers; one is kept if all are empty, as a tower has at least one layer."""
    layers = [layer for layer in zip(shape.heads, shape.channels, strict=True) if any(layer)] or [(0, 0)]
    heads, channels = zip(*layers, strict=True)
    return TowerShape(width=shape.width, head_width=shape.head_width, heads=heads, channels=channels)
