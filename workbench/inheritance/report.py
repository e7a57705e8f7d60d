"""What an inherited model is: the size, shape, arithmetic and latency of both towers."""

import time
from dataclasses import dataclass
from statistics import median

import torch

from workbench.config.shape import TOWERS, Tower, TowerShape
from workbench.inheritance.costs import multiply_accumulates
from workbench.models.clip import Clip
from workbench.models.counting import count_parameters
from workbench.models.shapes import tower_shape, why_not_a_transformer


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


@torch.no_grad()
def measure_latency_ms(model: Clip, tower: Tower, batch_size: int = 1, repeats: int = 20) -> float:
    """The median time of a forward of one tower in milliseconds, on the device where the model is, after a warm-up."""
    device = model.scale.device
    if tower == "image":
        size = (batch_size, 3, model.image_size, model.image_size)
        inputs = torch.zeros(size, dtype=torch.uint8, device=device)
    else:
        inputs = model.tokenizer(["a photo"] * batch_size).to(device)
    encode = model.encode_image if tower == "image" else model.encode_text
    was_training = model.training
    model.eval()
    times_ms = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        encode(inputs)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times_ms.append((time.perf_counter() - start) * 1e3)
    model.train(was_training)
    return median(times_ms[1:])
