"""A model seen through gates, and the smaller model that is the same function.

A gate multiplies a weight matrix on the side where its head or channel enters or leaves; the embedding gate multiplies
the embedded input as well. Because gates act on weights only, a closed one can be cut out and an open one multiplied in
without changing the function: slicing is exact. Shape letters: T tokens, C embedding channels, O outputs, I inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.config.inheritance import TOWERS, GatesConfig, Tower
from workbench.inheritance.gates import Gates, GateValues, TowerGates
from workbench.inheritance.slicing import EMBEDDING_AXES, rebuilt, take
from workbench.models.clip import Clip
from workbench.models.dense import Attention, Block, Constant, Perceptron
from workbench.models.shapes import tower_shape, with_shape
from workbench.models.towers import holder, join_weights, split_weights

Look = Callable[[], GateValues]
INPUTS: dict[Tower, tuple[str, ...]] = {  # what adds up to the embedded input
    "image": ("conv1.weight", "class_embedding", "positional_embedding"),
    "text": ("token_embedding.weight", "positional_embedding"),
}


@dataclass(frozen=True)
class Gated:
    """A model and the gates that it is seen through. The model's weights have the names that they have without."""

    clip: Clip
    gates: Gates


class GatedLinear(nn.Module):
    """A linear map between gated channels: diag(outward) · W · diag(inward)."""

    def __init__(self, linear: nn.Linear, look: Callable[[], tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self._look = look

    def folded(self) -> dict[str, Tensor]:
        """The weights of the ungated map that is the same function."""
        outward_O, inward_I = self._look()
        return {"weight": outward_O[:, None] * self.weight * inward_I, "bias": outward_O * self.bias}

    def forward(self, tokens_BTI: Tensor) -> Tensor:
        return F.linear(tokens_BTI, **self.folded())


class GatedConstant(nn.Module):
    """A branch without heads or channels, its bias behind the embedding gate."""

    def __init__(self, constant: Constant, look: Look) -> None:
        super().__init__()
        self.bias = constant.bias
        self._look = look

    def folded(self) -> dict[str, Tensor]:
        """The bias of the ungated branch."""
        return {"bias": self._look().embedding_C * self.bias}

    def forward(self, tokens_BTC: Tensor, _: Tensor | None = None) -> Tensor:
        return self.folded()["bias"].to(tokens_BTC.dtype)


class GatedNorm(nn.Module):
    """Layer normalization over the open channels alone; closed ones, which come in as 0, go out as 0.

    Closed channels are filled with the mean of the open ones, and all are scaled so that the variance over C channels
    is what the variance over the open ones was: then torch's own normalization over C does the rest.
    """

    def __init__(self, norm: nn.LayerNorm, look: Look) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self._look = look

    def forward(self, tokens_BTC: Tensor) -> Tensor:
        open_C = (self._look().embedding_C != 0).to(self.weight.dtype)
        num_open = open_C.sum().clamp(min=1)
        scale = (len(open_C) / num_open).sqrt()
        scaled_BTC = tokens_BTC.to(self.weight.dtype) * scale
        mean_BT1 = scaled_BTC.sum(dim=-1, keepdim=True) / num_open
        filled_BTC = torch.addcmul(scaled_BTC, mean_BT1, 1 - open_C)
        weight_C, bias_C = self.weight * open_C / scale, self.bias * open_C
        return F.layer_norm(filled_BTC, weight_C.shape, weight_C, bias_C, self.eps).to(tokens_BTC.dtype)


def gate(clip: Clip, config: GatesConfig, teacher_weights: int | None = None) -> Gated:
    """Put gates into every tower of a model that learns.

    Args:
        clip: its towers that are not frozen must be transformers; left as it was.
        teacher_weights: attention and FFN weights of the original teacher in these towers (:func:`block_weights`);
            those of ``clip`` where left out.

    Raises:
        ValueError: a tower cannot have gates, or the target is reached already.
    """
    towers = [tower for tower in TOWERS if tower not in clip.frozen]
    shapes = {tower: tower_shape(clip.config, tower) for tower in towers}
    gates = Gates(shapes, config, teacher_weights or block_weights(clip, towers))
    model_config = clip.config
    for tower, shape in shapes.items():
        model_config = with_shape(model_config, tower, shape, always_table=True)
    gated = rebuilt(clip, model_config, split_weights(clip.towers.state_dict()))
    for tower in clip.frozen:
        gated.freeze(tower)
    for tower in towers:
        _put_gates(holder(gated.towers, tower), tower, gates.tower(tower))
    return Gated(gated, gates)


def block_weights(clip: Clip, towers: list[Tower] | None = None) -> int:
    """The attention and FFN weights of some transformer towers, or both."""
    return sum(tower_shape(clip.config, tower).block_weights for tower in towers or TOWERS)


@torch.no_grad()
def slice_gated(gated: Gated) -> Clip:
    """The model with its closed gates cut out and its open ones multiplied in: the same function as in evaluation.

    The masks are those of :meth:`~workbench.inheritance.gates.Gates.masks`.
    """
    clip, selection = gated.clip, {}
    parts = split_weights(clip.towers.state_dict())
    for tower, masks in gated.gates.masks().items():
        gates = gated.gates.tower(tower)
        gates.look(training=False)
        parts[tower] |= _folded(holder(clip.towers, tower).transformer, "transformer")
        for name in INPUTS[tower]:
            parts[tower][name] = _scaled(parts[tower][name], EMBEDDING_AXES[name], gates.current.embedding_C)
        selection[tower] = masks.selection(gates.shape)
    student = take(clip, selection, join_weights(parts, clip.towers))
    for tower in clip.frozen:
        student.freeze(tower)
    return student


def _put_gates(owner: Any, tower: Tower, gates: TowerGates) -> None:
    """Replace the parts of a tower that gates act on by gated ones, which keep their weights and their names."""

    def look() -> GateValues:
        return gates.current

    def gate_input(tokens_BTC: Tensor) -> Tensor:
        return tokens_BTC * gates.current.embedding_C.to(tokens_BTC.dtype)

    # The gates are looked at once a forward, where the tower begins, and the embedded input is gated before any norm.
    if tower == "image":
        owner.conv1.register_forward_pre_hook(lambda module, _: gates.look(module.training))
        owner.patch_dropout.register_forward_hook(lambda _, __, tokens_BTC: gate_input(tokens_BTC))
    else:
        owner.token_embedding.register_forward_pre_hook(lambda module, _: gates.look(module.training))
        owner.transformer.register_forward_pre_hook(lambda _, inputs: (gate_input(inputs[0]), *inputs[1:]))
    _gate_norms(owner, ("ln_pre", "ln_post") if tower == "image" else ("ln_final",), look)
    for layer, block in enumerate(owner.transformer.resblocks):
        _gate_block(block, layer, look)


def _gate_block(block: Block, layer: int, look: Look) -> None:
    _gate_norms(block, ("ln_1", "ln_2"), look)
    if isinstance(block.attn, Attention):
        head_width = block.attn.head_width
        block.attn.out_proj = GatedLinear(  # type: ignore[assignment]  # gated in place of plain
            block.attn.out_proj,
            lambda: (look().embedding_C, look().heads[layer].repeat_interleave(head_width)),
        )
    else:
        block.attn = GatedConstant(cast(Constant, block.attn), look)
    if isinstance(block.mlp, Perceptron):
        block.mlp.c_proj = GatedLinear(  # type: ignore[assignment]  # as above
            block.mlp.c_proj, lambda: (look().embedding_C, look().channels[layer])
        )
    else:
        block.mlp = GatedConstant(cast(Constant, block.mlp), look)


def _gate_norms(owner: nn.Module, names: tuple[str, ...], look: Look) -> None:
    for name in names:
        if isinstance(norm := getattr(owner, name), nn.LayerNorm):
            setattr(owner, name, GatedNorm(norm, look))


def _folded(transformer: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {
        f"{prefix}.{name}.{kind}": tensor
        for name, module in transformer.named_modules()
        if isinstance(module, GatedLinear | GatedConstant)
        for kind, tensor in module.folded().items()
    }


def _scaled(tensor: Tensor, axis: int | None, opening_C: Tensor) -> Tensor:
    assert axis is not None
    return tensor * opening_C.view([-1 if n == axis else 1 for n in range(tensor.ndim)])
