"""Building the two towers of a model config: open_clip's, with the workbench's transformer blocks in them.

A block has any number of heads and FFN channels, whatever the width of its tower. Heads keep their own width, so that a
tower can lose embedding channels without shrinking its heads (``nn.MultiheadAttention`` ties the two). Weights are
named as in open_clip. A branch without heads or channels is its output bias.

A block computes what open_clip's does from the same weights, in float32 at the usual sizes to the last bit, and takes
less time: ``nn.MultiheadAttention`` copies its input and output to put the sequence first.

Shape letters: H heads, W channels of a head, F FFN channels.
"""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, Transformer
from torch import Tensor, nn

from workbench.config.inheritance import TOWERS, Tower, TowerShape
from workbench.errors import reason, unknown
from workbench.models.configs import SECTIONS, TABLES, check_counts, check_size, tower_shape
from workbench.models.names import check_supported


class Constant(nn.Module):
    """A branch reduced to its output bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, tokens_BTC: Tensor, _: Tensor | None = None) -> Tensor:
        return self.bias.to(tokens_BTC.dtype)


class Attention(nn.Module):
    """Multi-head self-attention with C channels outside and H · W inside; initialized as torch's own."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        inner = heads * head_width
        self.head_width = head_width
        self.in_proj_weight = nn.Parameter(torch.empty(3 * inner, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * inner))
        self.out_proj = nn.Linear(inner, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens_BTC: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        projected = F.linear(tokens_BTC, self.in_proj_weight, self.in_proj_bias)
        # Three views, not one tensor with an axis of 3: their gradients are joined by one copy instead of two.
        query, key, value = (
            part.reshape(*tokens_BTC.shape[:2], -1, self.head_width).transpose(1, 2)
            for part in projected.chunk(3, dim=2)
        )
        # open_clip keeps its causal mask in float32, which scaled_dot_product_attention refuses under autocast.
        mask = None if attn_mask is None else attn_mask.to(query.dtype)
        if mask is not None and mask.ndim == 3:  # [B · heads, T, T], open_clip's where it masks padding
            mask = mask.reshape(len(tokens_BTC), -1, *mask.shape[1:])
        context_BHTW = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        output: Tensor = self.out_proj(context_BHTW.transpose(1, 2).flatten(2))
        return output


class Perceptron(nn.Module):
    """The FFN of a block."""

    def __init__(self, width: int, channels: int, activation: nn.Module) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, channels)
        self.gelu = activation
        self.c_proj = nn.Linear(channels, width)

    def forward(self, tokens_BTC: Tensor) -> Tensor:
        output: Tensor = self.c_proj(self.gelu(self.c_fc(tokens_BTC)))
        return output


class Block(nn.Module):
    """Attention and an FFN, each with a layer norm before and a residual connection.

    Args:
        width: embedding channels of the tower.
        heads, channels: 0 reduces the branch to its output bias, without a norm.
        make_norm: creates a norm over so many channels.
        make_activation: creates the activation of the FFN.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        channels: int,
        *,
        head_width: int,
        make_norm: Callable[[int], nn.Module],
        make_activation: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        # A branch that is only a bias needs no norm: its input does not matter.
        self.ln_1 = make_norm(width) if heads else nn.Identity()
        self.attn: nn.Module = Attention(width, heads, head_width) if heads else Constant(width)
        self.ln_2 = make_norm(width) if channels else nn.Identity()
        self.mlp: nn.Module = Perceptron(width, channels, make_activation()) if channels else Constant(width)
        # The token of each row that is read behind this block, int64 [B]; set by workbench.models.pooling.
        self.read_B: Tensor | None = None

    def forward(self, tokens_BTC: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        tokens_BTC = tokens_BTC + self.attn(self.ln_1(tokens_BTC), attn_mask)
        if self.read_B is None:
            every_BTC: Tensor = tokens_BTC + self.mlp(self.ln_2(tokens_BTC))
            return every_BTC
        rows_B = torch.arange(len(tokens_BTC), device=tokens_BTC.device)
        read_B1C = tokens_BTC[rows_B, self.read_B][:, None]
        output_B1C: Tensor = read_B1C + self.mlp(self.ln_2(read_B1C))
        # At every place, so that whoever pools it finds it where it was.
        return output_B1C.expand_as(tokens_BTC)

    def get_weight_dtype(self) -> torch.dtype:
        """The dtype that open_clip casts token embeddings to."""
        return next(self.parameters()).dtype


def build_towers(config: dict[str, Any]) -> Any:
    """An open_clip model (untyped), randomly initialized from torch's global random state.

    Nothing is downloaded: timm towers are randomly initialized too, whatever their ``timm_model_pretrained``.

    Raises:
        ValueError: open_clip cannot build this config, the workbench does not support it, it does not fit into memory,
            or one of its shape tables does not match.
    """
    check_buildable(config)
    shapes = {tower: tower_shape(config, tower) for tower in _tabled(config)}
    towers = open_clip_towers(_with_template_blocks(config, shapes))
    for tower in TOWERS:
        transformer = getattr(tower_module(towers, tower), "transformer", None)
        if tower in shapes:
            _put_blocks(transformer, tower, shapes[tower])
        elif isinstance(transformer, Transformer):  # not a ResNet, and not a tower of timm
            _exchange_blocks(transformer)
    return towers


def check_buildable(config: Mapping[str, Any]) -> None:
    """Refuse unsupported configs before anything is allocated or downloaded."""
    check_supported(config)
    vision = found if isinstance(found := config.get("vision_cfg"), dict) else {}
    if name := vision.get("timm_model_name"):
        import timm

        if not isinstance(name, str) or not timm.is_model(name.partition(".")[0]):
            raise unknown("timm model", str(name), timm.list_models())
    check_counts(config)
    check_size(config)


def tower_module(towers: Any, tower: Tower) -> Any:
    """The module with a tower's parts; a text tower's are in the model itself, or in ``towers.text``."""
    if tower == "image":
        return towers.visual
    return towers.text if hasattr(towers, "text") else towers


def split_name(name: str) -> tuple[Tower | None, str]:
    """The tower of a weight (None for shared ones such as the scale), and the weight's name within it."""
    if name in ("logit_scale", "logit_bias"):
        return None, name
    if name.startswith("visual."):
        return "image", name.removeprefix("visual.")
    return "text", name.removeprefix("text.")


def split_weights(weights: Mapping[str, Tensor]) -> dict[Tower | None, dict[str, Tensor]]:
    """Weights by tower; shared ones are under None."""
    parts: dict[Tower | None, dict[str, Tensor]] = {None: {}, "image": {}, "text": {}}
    for name, tensor in weights.items():
        tower, inner = split_name(name)
        parts[tower][inner] = tensor
    return parts


def join_weights(parts: Mapping[Tower | None, Mapping[str, Tensor]], towers: Any) -> dict[str, Tensor]:
    """The inverse of :func:`split_weights`, with names as in ``towers``."""
    prefixes: dict[Tower | None, str] = {
        None: "",
        "image": "visual.",
        "text": "text." if hasattr(towers, "text") else "",
    }
    return {prefixes[tower] + name: tensor for tower, part in parts.items() for name, tensor in part.items()}


def _tabled(config: dict[str, Any]) -> list[Tower]:
    tables = config.get(TABLES, {})
    for name in tables:
        if name not in TOWERS:
            raise unknown("tower", name, TOWERS)
    return [tower for tower in TOWERS if tower in tables]


def _with_template_blocks(config: dict[str, Any], shapes: dict[Tower, TowerShape]) -> dict[str, Any]:
    """A config that open_clip can build whatever the shapes: one block with one head, replaced afterwards."""
    # open_clip requires width % heads == 0, which sliced towers may violate.
    config = {key: value for key, value in copy.deepcopy(config).items() if key != TABLES}
    for tower, shape in shapes.items():
        one_head = {"head_width": shape.width} if tower == "image" else {"heads": 1}
        config[SECTIONS[tower]] |= {"layers": 1} | one_head
    return config


def open_clip_towers(config: dict[str, Any]) -> Any:
    """open_clip's own model of a config without shape tables, randomly initialized."""
    custom_text = config.get("custom_text") or "hf_model_name" in config["text_cfg"]
    build = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    try:
        return build(**arguments | {"vision_cfg": arguments["vision_cfg"] | {"timm_model_pretrained": False}})
    except Exception as error:  # open_clip checks little: a bad config fails anywhere in its code
        raise ValueError(f"open_clip cannot build this model config: {reason(error)}") from error


def _put_blocks(transformer: Transformer, tower: Tower, shape: TowerShape) -> None:
    """Replace the template block by blocks of the given shape, with its norm and activation."""
    (template,) = transformer.resblocks
    blocks = [
        _block(template, shape.width, heads, channels, shape.head_width)
        for heads, channels in zip(shape.heads, shape.channels, strict=True)
    ]
    if tower == "text":
        for block in blocks:
            _init_as_text(block, shape)
    transformer.resblocks = nn.ModuleList(blocks)
    transformer.layers = shape.num_layers


def _exchange_blocks(transformer: Transformer) -> None:
    """Replace open_clip's blocks by the workbench's, with the same parameters; blocks of other functions stay."""
    for number, theirs in enumerate(transformer.resblocks):
        is_plain = isinstance(theirs, ResidualAttentionBlock) and isinstance(theirs.ls_1, nn.Identity)
        if not is_plain:  # LayerScale, or open_clip's custom block (qk_norm, scale_attn and so on)
            continue
        with torch.device("meta"):  # a shell: open_clip has drawn the initial weights
            block = _block(
                theirs,
                theirs.attn.embed_dim,
                theirs.attn.num_heads,
                theirs.mlp.c_fc.out_features,
                theirs.attn.head_dim,
            )
        block.load_state_dict(theirs.state_dict(keep_vars=True), assign=True)
        transformer.resblocks[number] = block


def restore_open_clips_blocks(towers: Any, config: dict[str, Any]) -> bool:
    """Give the transformers open_clip's own blocks, with the same parameters, to compare them with.

    False, and no change, where open_clip cannot build such a tower, or no tower is a transformer.
    """
    if TABLES in config:
        return False
    theirs = open_clip_towers(config)
    found = False
    for tower in TOWERS:
        own, other = (getattr(tower_module(one, tower), "transformer", None) for one in (towers, theirs))
        if isinstance(own, Transformer) and isinstance(other, Transformer):
            other.load_state_dict(own.state_dict(keep_vars=True), assign=True)
            own.resblocks, found = other.resblocks, True
    return found


def _block(template: ResidualAttentionBlock, width: int, heads: int, channels: int, head_width: int) -> Block:
    """A block of this shape with the norm and the activation of open_clip's."""
    norm = template.ln_1
    return Block(
        width,
        heads,
        channels,
        head_width=head_width,
        make_norm=partial(
            norm.__class__, eps=norm.eps, elementwise_affine=norm.elementwise_affine, bias=norm.bias is not None
        ),
        make_activation=partial(copy.deepcopy, template.mlp.gelu),
    )


def _init_as_text(block: Block, shape: TowerShape) -> None:
    """Initialize a block like open_clip's text tower, by width and depth; a ViT's blocks use torch's defaults."""
    inward, outward = shape.width**-0.5, (2 * shape.num_layers * shape.width) ** -0.5
    if isinstance(block.attn, Attention):
        nn.init.normal_(block.attn.in_proj_weight, std=inward)
        nn.init.normal_(block.attn.out_proj.weight, std=outward)
    if isinstance(block.mlp, Perceptron):
        nn.init.normal_(block.mlp.c_fc.weight, std=(2 * shape.width) ** -0.5)
        nn.init.normal_(block.mlp.c_proj.weight, std=outward)
