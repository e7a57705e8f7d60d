"""A model with gated weights for learned pruning, and the smaller model that computes the same function.

A gate multiplies a weight matrix on the side of its head or channel; the embedding gates also multiply the embedded
input. Gates act on weights only, so closed parts can be removed and open gates multiplied into the weights: slicing is
exact. Shape letters: T tokens, C embedding channels, O outputs, I inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.config.inheritance import TOWERS, GatesConfig, Tower
from workbench.inheritance.gates import Gates, GateValues, TowerGates
from workbench.inheritance.slicing import EMBEDDING_AXES, build_student, slice_towers
from workbench.models.clip import Clip
from workbench.models.configs import tower_shape
from workbench.models.towers import Attention, Block, Constant, Perceptron, join_weights, split_weights, tower_module

GetGates = Callable[[], GateValues]
INPUTS: dict[Tower, tuple[str, ...]] = {  # weights that sum to the embedded input
    "image": ("conv1.weight", "class_embedding", "positional_embedding"),
    "text": ("token_embedding.weight", "positional_embedding"),
}


@dataclass(frozen=True)
class Gated:
    """A model and its gates. The model's weights keep the names they have without gates."""

    clip: Clip
    gates: Gates


class GatedLinear(nn.Module):
    """A linear map between gated channels: diag(output gates) · W · diag(input gates)."""

    def __init__(self, linear: nn.Linear, get_gates: Callable[[], tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self._get_gates = get_gates

    def folded(self) -> dict[str, Tensor]:
        """Weights of the equivalent ungated map."""
        output_O, input_I = self._get_gates()
        return {"weight": output_O[:, None] * self.weight * input_I, "bias": output_O * self.bias}

    def forward(self, tokens_BTI: Tensor) -> Tensor:
        return F.linear(tokens_BTI, **self.folded())


class GatedConstant(nn.Module):
    """A branch without heads or channels: its bias, behind the embedding gates."""

    def __init__(self, constant: Constant, get_gates: GetGates) -> None:
        super().__init__()
        self.bias = constant.bias
        self._get_gates = get_gates

    def folded(self) -> dict[str, Tensor]:
        """The bias of the equivalent ungated branch."""
        return {"bias": self._get_gates().embedding_C * self.bias}

    def forward(self, tokens_BTC: Tensor, _: Tensor | None = None) -> Tensor:
        return self.folded()["bias"].to(tokens_BTC.dtype)


class GatedNorm(nn.Module):
    """Layer normalization over the open channels only; closed channels are 0 in the input and in the output.

    Closed channels are filled with the mean of the open ones, and all are scaled so that the variance over C channels
    equals that over the open ones. Torch's own layer norm over C then gives the wanted result.
    """

    def __init__(self, norm: nn.LayerNorm, get_gates: GetGates) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self._get_gates = get_gates

    def forward(self, tokens_BTC: Tensor) -> Tensor:
        # 1 for every open gate, whatever its value: the embedding gates are in the weights and input already.
        open_C = (self._get_gates().embedding_C != 0).to(self.weight.dtype)
        num_open = open_C.sum().clamp(min=1)  # with all channels closed: 0 / 1, not NaN
        scale = (len(open_C) / num_open).sqrt()
        scaled_BTC = tokens_BTC.to(self.weight.dtype) * scale
        mean_BT1 = scaled_BTC.sum(dim=-1, keepdim=True) / num_open
        filled_BTC = torch.addcmul(scaled_BTC, mean_BT1, 1 - open_C)
        weight_C, bias_C = self.weight * open_C / scale, self.bias * open_C
        return F.layer_norm(filled_BTC, weight_C.shape, weight_C, bias_C, self.eps).to(tokens_BTC.dtype)


def gate(clip: Clip, config: GatesConfig, teacher_weights: int | None = None) -> Gated:
    """A gated copy of a model, with gates in every tower that is trained.

    Args:
        clip: not modified; its towers that are not frozen must be transformers.
        teacher_weights: attention and FFN weights of the original teacher in these towers (:func:`block_weights`); by
            default those of ``clip``.

    Raises:
        ValueError: a tower that cannot have gates, or a target that is already met.
    """
    towers = [tower for tower in TOWERS if tower not in clip.frozen]
    shapes = {tower: tower_shape(clip.config, tower) for tower in towers}
    gates = Gates(shapes, config, teacher_weights or block_weights(clip, towers))
    gated = build_student(clip, clip.config, split_weights(clip.towers.state_dict()))
    for tower in clip.frozen:
        gated.freeze(tower)
    for tower in towers:
        _put_gates(tower_module(gated.towers, tower), tower, gates.tower(tower))
    return Gated(gated, gates)


def block_weights(clip: Clip, towers: list[Tower] | None = None) -> int:
    """Attention and FFN weights of some transformer towers; of both by default."""
    return sum(tower_shape(clip.config, tower).block_weights for tower in towers or TOWERS)


@torch.no_grad()
def slice_gated(gated: Gated) -> Clip:
    """The model without its closed parts and with open gates multiplied in: the same function as in evaluation.

    The masks are those of :meth:`~workbench.inheritance.gates.Gates.masks`.
    """
    clip, selection = gated.clip, {}
    parts = split_weights(clip.towers.state_dict())
    for tower, masks in gated.gates.masks().items():
        gates = gated.gates.tower(tower)
        gates.update_values(training=False)
        parts[tower] |= _folded(tower_module(clip.towers, tower).transformer, "transformer")
        for name in INPUTS[tower]:
            parts[tower][name] = _scaled(parts[tower][name], EMBEDDING_AXES[name], gates.values.embedding_C)
        selection[tower] = masks.selection(gates.shape)
    student = slice_towers(clip, selection, join_weights(parts, clip.towers))
    for tower in clip.frozen:
        student.freeze(tower)
    return student


def _put_gates(owner: Any, tower: Tower, gates: TowerGates) -> None:
    """Replace the gated parts of a tower in place; weights keep their values and names."""

    def get_gates() -> GateValues:
        return gates.values

    def gate_input(tokens_BTC: Tensor) -> Tensor:
        return tokens_BTC * gates.values.embedding_C.to(tokens_BTC.dtype)

    # Gate values are computed once per forward, at the tower's first module. The embedded input is gated before any
    # norm, which must not see closed channels.
    if tower == "image":
        owner.conv1.register_forward_pre_hook(lambda module, _: gates.update_values(module.training))
        owner.patch_dropout.register_forward_hook(lambda _, __, tokens_BTC: gate_input(tokens_BTC))
    else:
        owner.token_embedding.register_forward_pre_hook(lambda module, _: gates.update_values(module.training))
        owner.transformer.register_forward_pre_hook(lambda _, inputs: (gate_input(inputs[0]), *inputs[1:]))
    _gate_norms(owner, ("ln_pre", "ln_post") if tower == "image" else ("ln_final",), get_gates)
    for layer, block in enumerate(owner.transformer.resblocks):
        _gate_block(block, layer, get_gates)


def _gate_block(block: Block, layer: int, get_gates: GetGates) -> None:
    _gate_norms(block, ("ln_1", "ln_2"), get_gates)
    if isinstance(block.attn, Attention):
        head_width = block.attn.head_width
        block.attn.out_proj = GatedLinear(  # type: ignore[assignment]  # a GatedLinear replaces a Linear
            block.attn.out_proj,
            lambda: (get_gates().embedding_C, get_gates().heads[layer].repeat_interleave(head_width)),
        )
    else:
        block.attn = GatedConstant(cast(Constant, block.attn), get_gates)
    if isinstance(block.mlp, Perceptron):
        block.mlp.c_proj = GatedLinear(  # type: ignore[assignment]  # as above
            block.mlp.c_proj, lambda: (get_gates().embedding_C, get_gates().channels[layer])
        )
    else:
        block.mlp = GatedConstant(cast(Constant, block.mlp), get_gates)


def _gate_norms(owner: nn.Module, names: tuple[str, ...], get_gates: GetGates) -> None:
    for name in names:
        if isinstance(norm := getattr(owner, name), nn.LayerNorm):
            setattr(owner, name, GatedNorm(norm, get_gates))


def _folded(transformer: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {
        f"{prefix}.{name}.{kind}": tensor
        for name, module in transformer.named_modules()
        if isinstance(module, GatedLinear | GatedConstant)
        for kind, tensor in module.folded().items()
    }


def _scaled(tensor: Tensor, axis: int | None, gates_C: Tensor) -> Tensor:
    assert axis is not None
    return tensor * gates_C.view([-1 if n == axis else 1 for n in range(tensor.ndim)])
