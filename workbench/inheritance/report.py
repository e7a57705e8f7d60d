"""Size, shape, multiply-accumulates and latency of a model's towers."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import quantiles

import torch
from torch.utils.flop_counter import FlopCounterMode

from workbench.config.inheritance import TOWERS, Tower, TowerShape
from workbench.models.clip import Clip, count_parameters
from workbench.models.configs import tower_shape, why_not_a_transformer, with_shape
from workbench.runs.snapshots import MaskSnapshot

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
    shape = None if why_not_a_transformer(model.config, tower) else tower_shape(model.config, tower)
    is_foreign = tower == "image" and model.config["vision_cfg"].get("timm_model_name")
    cost = None if is_foreign else multiply_accumulates(model, tower)
    return TowerReport(shape, sizes["blocks"], sizes["embeddings"], cost)


def multiply_accumulates(model: Clip, tower: Tower) -> int:
    """Multiply-accumulates of one forward of one tower: matrix products and convolutions, no norms or activations.

    Text attention is counted over all pairs of tokens, as it is computed in spite of the causal mask.
    """
    with torch.device("meta"):  # shapes alone: no memory, no arithmetic
        twin = Clip(copy.deepcopy(model.config), model.tokenizer).eval()
        image = torch.zeros(1, 3, model.image_size, model.image_size, dtype=torch.uint8)
        text = torch.zeros(1, model.tokenizer.context_length, dtype=torch.int64)
        # With gradients: torch's fused attention of inference is unknown to the counter.
        with torch.enable_grad(), FlopCounterMode(display=False) as counter:
            # The towers themselves: as papers count, the last FFN is for all tokens, though encoding skips most.
            _ = twin.towers.encode_image(image.float()) if tower == "image" else twin.towers.encode_text(text)
    return int(counter.get_total_flops() // 2)  # a multiplication and an addition each


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
    return Clip(config, newest.tokenizer, **newest.preprocessing)


def _without_empty_layers(shape: TowerShape) -> TowerShape:
    """The shape without empty layers; one is kept if all are empty, as a tower has at least one layer."""
    layers = [layer for layer in zip(shape.heads, shape.channels, strict=True) if any(layer)] or [(0, 0)]
    heads, channels = zip(*layers, strict=True)
    return TowerShape(width=shape.width, head_width=shape.head_width, heads=heads, channels=channels)
