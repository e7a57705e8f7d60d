"""Slicing a model: the weights of selected layers and channels, copied into a smaller model."""

from collections.abc import Mapping

import torch
from torch import Tensor

from workbench.config.inheritance import Tower, TowerShape
from workbench.inheritance.selection import Selection, TowerSelection
from workbench.models.clip import Clip
from workbench.models.configs import tower_shape, with_shape
from workbench.models.towers import join_weights, split_weights

Weights = dict[str, Tensor]
BLOCKS = "transformer.resblocks"
EMBEDDING_AXES = {  # axis of the tower's embedding channels in each weight outside the blocks; None: has none
    "conv1.weight": 0,
    "class_embedding": 0,
    "token_embedding.weight": 1,
    "positional_embedding": 1,
    "ln_pre.weight": 0,
    "ln_pre.bias": 0,
    "ln_post.weight": 0,
    "ln_post.bias": 0,
    "ln_final.weight": 0,
    "ln_final.bias": 0,
    "proj": 0,
    "text_projection": 0,
    "text_projection.weight": 1,
    "text_projection.bias": None,
}


def slice_towers(teacher: Clip, selection: Selection, weights: Mapping[str, Tensor] | None = None) -> Clip:
    """A smaller model with the selected weights; towers without a selection keep all of theirs.

    Args:
        weights: of the towers; by default the teacher's own.
    """
    config = teacher.config
    # By tower, as the same name ("positional_embedding") may be a weight of both.
    parts = split_weights(teacher.towers.state_dict() if weights is None else weights)
    for tower, chosen in selection.items():
        shape = tower_shape(teacher.config, tower)
        config = with_shape(config, tower, chosen.shape(shape))
        parts[tower] = slice_tower(parts[tower], shape, chosen)
    return build_student(teacher, config, parts)


def build_student(teacher: Clip, config: dict[str, object], parts: Mapping[Tower | None, Weights]) -> Clip:
    """A model of this config with the teacher's tokenizer and normalization and these weights, in evaluation mode."""
    student = Clip(config, teacher.tokenizer, **teacher.preprocessing)
    student.towers.load_state_dict(join_weights(parts, student.towers))
    return student.eval()


def slice_tower(weights: Weights, shape: TowerShape, chosen: TowerSelection) -> Weights:
    """The selected part of each weight of a transformer tower, by its name in the smaller tower."""
    device = next(iter(weights.values())).device

    def numbers(of: tuple[int, ...]) -> Tensor:
        return torch.tensor(of, dtype=torch.int64, device=device)

    embedding_C = numbers(chosen.embedding)
    sliced = {
        name: tensor if (axis := EMBEDDING_AXES[name]) is None else tensor.index_select(axis, embedding_C)
        for name, tensor in weights.items()
        if not name.startswith(BLOCKS)
    }
    for number, layer in enumerate(chosen.layers):
        prefix = f"{BLOCKS}.{layer}."
        block = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        left = _slice_attention(block, shape.head_width, numbers(chosen.heads[number]), embedding_C)
        left |= _slice_perceptron(block, numbers(chosen.channels[number]), embedding_C)
        sliced |= {f"{BLOCKS}.{number}.{name}": tensor for name, tensor in left.items()}
    return sliced


def _slice_attention(block: Weights, head_width: int, heads: Tensor, embedding_C: Tensor) -> Weights:
    if not len(heads):
        return _only_bias(block, "attn", "out_proj", embedding_C)
    inner = block["attn.out_proj.weight"].shape[1]
    within = torch.arange(head_width, device=heads.device)
    columns = (heads[:, None] * head_width + within).flatten()
    # Queries, keys and values are stacked in one matrix of 3 · inner rows: a head has rows in each third.
    rows = torch.cat([columns, columns + inner, columns + 2 * inner])
    return _slice_norm(block, "ln_1", embedding_C) | {
        "attn.in_proj_weight": block["attn.in_proj_weight"][rows][:, embedding_C],
        "attn.in_proj_bias": block["attn.in_proj_bias"][rows],
        "attn.out_proj.weight": block["attn.out_proj.weight"][embedding_C][:, columns],
        "attn.out_proj.bias": block["attn.out_proj.bias"][embedding_C],
    }


def _slice_perceptron(block: Weights, channels: Tensor, embedding_C: Tensor) -> Weights:
    if not len(channels):
        return _only_bias(block, "mlp", "c_proj", embedding_C)
    return _slice_norm(block, "ln_2", embedding_C) | {
        "mlp.c_fc.weight": block["mlp.c_fc.weight"][channels][:, embedding_C],
        "mlp.c_fc.bias": block["mlp.c_fc.bias"][channels],
        "mlp.c_proj.weight": block["mlp.c_proj.weight"][embedding_C][:, channels],
        "mlp.c_proj.bias": block["mlp.c_proj.bias"][embedding_C],
    }


def _slice_norm(block: Weights, norm: str, embedding_C: Tensor) -> Weights:
    return {f"{norm}.{name}": block[f"{norm}.{name}"][embedding_C] for name in ("weight", "bias")}


def _only_bias(block: Weights, branch: str, output: str, embedding_C: Tensor) -> Weights:
    """The output bias of a branch without heads or channels, which may have been such a branch already."""
    bias = block[f"{branch}.bias"] if f"{branch}.bias" in block else block[f"{branch}.{output}.bias"]
    return {f"{branch}.bias": bias[embedding_C]}


def with_random_weights(student: Clip, seed: int) -> Clip:
    """A model like ``student`` with random weights, the baseline of inheritance; frozen towers keep theirs, frozen."""
    fresh = Clip(student.config, student.tokenizer, **student.preprocessing, seed=seed)
    parts = split_weights(fresh.towers.state_dict())
    for tower in student.frozen:
        parts[tower] = split_weights(student.towers.state_dict())[tower]
    made = build_student(student, student.config, parts)
    for tower in student.frozen:
        made.freeze(tower)
    return made
