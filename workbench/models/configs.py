"""open_clip model configs: the shapes of their transformer towers, and checks before anything is allocated.

A plain tower is described by open_clip's own settings. Any other has an extra table,
``config["workbench"]["image" or "text"] = {"head_width", "heads", "channels"}``, with one number per layer.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any

from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from workbench.config.inheritance import TOWERS, Tower, TowerShape
from workbench.errors import reason
from workbench.process import MIB, memory_mb

Config = dict[str, Any]
TABLES = "workbench"
SECTIONS: dict[Tower, str] = {"image": "vision_cfg", "text": "text_cfg"}
ODD_SETTINGS = (
    "ls_init_value",
    "attentional_pool",
    "embed_cls",
    "block_type",
    "qk_norm",
    "scaled_cosine_attn",
    "scale_heads",
    "scale_attn_inner",
    "scale_attn",
    "scale_fc",
)


def tower_shape(config: Config, tower: Tower) -> TowerShape:
    """The shape of one tower."""
    if trouble := why_not_a_transformer(config, tower):
        raise ValueError(f"the {tower} tower {trouble}: choose a model with open_clip's plain transformer there")
    settings = tower_settings(config, tower)
    table = config.get(TABLES, {}).get(tower)
    if table is not None:
        shape = TowerShape.parse({"width": settings.width} | table)
        if settings.layers != shape.num_layers:
            raise ValueError(f"{SECTIONS[tower]} has {settings.layers} layers, its table {shape.num_layers}")
        return shape
    heads = settings.width // settings.head_width if tower == "image" else settings.heads
    num_layers = settings.layers
    return TowerShape(
        width=settings.width,
        head_width=settings.width // heads,
        heads=(heads,) * num_layers,
        channels=(int(settings.width * settings.mlp_ratio),) * num_layers,
    )


def why_not_a_transformer(config: Config, tower: Tower) -> str:
    """The reason why a tower is not a transformer with standard blocks; empty if it is one."""
    section = config[SECTIONS[tower]]
    for name in ("timm_model_name", "hf_model_name"):
        if section.get(name):
            return f"is {section[name]}, from another library"
    if isinstance(section.get("layers"), list | tuple):
        return "is a ModifiedResNet"
    odd = [name for name in ODD_SETTINGS if section.get(name)]
    return f"has {odd[0]}" if odd else ""


def with_shape(config: Config, tower: Tower, shape: TowerShape) -> Config:
    """The config with one tower in another shape, in open_clip's own settings if they can express it."""
    config = copy.deepcopy(config)
    section = config[SECTIONS[tower]]
    tables = config.pop(TABLES, {})
    tables.pop(tower, None)
    for name, value in (("width", shape.width), ("layers", shape.num_layers)):
        if getattr(tower_settings(config, tower), name) != value:
            section[name] = value
    if shape.is_plain:
        _set_plain(config, tower, shape)
    else:
        tables[tower] = {"head_width": shape.head_width, "heads": list(shape.heads), "channels": list(shape.channels)}
    return config | {TABLES: tables} if tables else config


def _set_plain(config: Config, tower: Tower, shape: TowerShape) -> None:
    section, settings = config[SECTIONS[tower]], tower_settings(config, tower)
    heads, channels = shape.heads[0], shape.channels[0]
    if tower == "image" and settings.width // settings.head_width != heads:
        section["head_width"] = shape.head_width
    if tower == "text" and settings.heads != heads:
        section["heads"] = heads
    if int(settings.width * settings.mlp_ratio) != channels:
        ratio = channels / shape.width
        # open_clip truncates width * ratio: where rounding loses a channel, half a channel more gets it back.
        section["mlp_ratio"] = ratio if int(shape.width * ratio) == channels else (channels + 0.5) / shape.width


def tower_settings(config: Config, tower: Tower) -> Any:
    """A tower's settings as an open_clip config object, with defaults."""
    try:
        return (CLIPVisionCfg if tower == "image" else CLIPTextCfg)(**config[SECTIONS[tower]])
    except TypeError as error:
        raise ValueError(f"{SECTIONS[tower]} is not open_clip's: {reason(error)}") from None


BLOCK_BYTES = 20_000  # Python objects of a transformer block, independent of its width
DEFAULTS: dict[Tower, Any] = {"image": CLIPVisionCfg(), "text": CLIPTextCfg()}


COUNTS: dict[Tower, tuple[str, ...]] = {
    "image": ("layers", "width", "head_width", "image_size", "patch_size"),
    "text": ("layers", "width", "heads", "context_length", "vocab_size"),
}
SEVERAL = ("layers", "image_size", "patch_size")  # of an image tower: also a list, as a ResNet's stages or two sides


def check_counts(config: Mapping[str, Any]) -> None:
    """Check that layers, widths and the like are positive integers, since open_clip's own errors name no setting."""
    _check_count("embed_dim", config.get("embed_dim"))
    for tower in TOWERS:
        section = config.get(SECTIONS[tower])
        if not isinstance(section, Mapping):
            continue
        for name in COUNTS[tower]:
            value = section.get(name, 1)
            if value is None and (name == "patch_size" or section.get("timm_model_name")):
                continue
            is_list = tower == "image" and name in SEVERAL and isinstance(value, list | tuple) and value
            for one in value if is_list else (value,):
                _check_count(f"{SECTIONS[tower]}.{name}", one)


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive integer (got {value!r:.100})")


def check_size(config: Mapping[str, Any]) -> None:
    """Check that the weights of a config, in float32, fit into the memory that the process may use.

    Settings that are not numbers are skipped: open_clip rejects them by type.
    """
    try:
        num_parameters, num_blocks = estimate(config)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, ZeroDivisionError):
        return
    except OverflowError:
        num_parameters = num_blocks = math.inf
    needed_mb, (total_mb, _) = (4 * num_parameters + BLOCK_BYTES * num_blocks) / MIB, memory_mb()
    if needed_mb > total_mb:
        raise ValueError(
            f"the model config describes {num_parameters:.3g} parameters in {num_blocks:.3g} blocks, "
            f"{needed_mb / 1024:,.0f} GB in float32, and this machine has {total_mb / 1024:,.0f} GB: "
            "check its layers, widths and sizes"
        )


def estimate(config: Mapping[str, Any]) -> tuple[float, float]:
    """(parameters, blocks), as lower bounds: norms and biases are left out, and a timm tower counts as its projection.

    Raises:
        TypeError, ValueError, KeyError: a setting has another type than in open_clip.
        OverflowError: a setting is too large for a float.
    """
    embed_dim = float(config["embed_dim"])
    parameters, blocks = 1.0, 0.0
    for tower in TOWERS:
        sizes = _Sizes(config, tower)
        found = sizes.text(embed_dim) if tower == "text" else sizes.image(embed_dim)
        parameters, blocks = parameters + found[0], blocks + found[1]
    return parameters, blocks


class _Sizes:
    """Settings of one tower as floats, so that integers of hundreds of digits raise OverflowError."""

    def __init__(self, config: Mapping[str, Any], tower: Tower) -> None:
        self._section = {**vars(DEFAULTS[tower]), **config[SECTIONS[tower]]}
        self._table = config.get(TABLES, {}).get(tower)

    def __getitem__(self, name: str) -> float:
        value = self._section[name]
        return float(value[0] if isinstance(value, list | tuple) else value)

    def image(self, embed_dim: float) -> tuple[float, float]:
        if self._section["timm_model_name"]:
            return embed_dim, 0.0
        if isinstance(self._section["layers"], list | tuple):
            return self._resnet(embed_dim)
        grid = self["image_size"] // self["patch_size"]
        around = (3 * self["patch_size"] ** 2 + grid**2 + 1 + embed_dim) * self["width"]
        if self._section["attentional_pool"]:
            around += self["attn_pooler_queries"] * embed_dim + 4 * embed_dim**2
        parameters, blocks = self._blocks()
        return parameters + around, blocks

    def text(self, embed_dim: float) -> tuple[float, float]:
        rows = self["vocab_size"] + self["context_length"] + embed_dim
        parameters, blocks = self._blocks()
        return parameters + rows * self["width"] + self["context_length"] ** 2, blocks  # squared: the causal mask

    def _blocks(self) -> tuple[float, float]:
        width = self["width"]
        plain = (4 + 2 * self["mlp_ratio"]) * width**2
        if self._table is None:
            return plain * self["layers"], self["layers"]
        heads, channels = self._table["heads"], self._table["channels"]
        inner = 4 * float(self._table["head_width"]) * sum(map(float, heads)) + 2 * sum(map(float, channels))
        return inner * width + plain, float(len(heads))  # open_clip builds one plain block first

    def _resnet(self, embed_dim: float) -> tuple[float, float]:
        """A bottleneck block of P planes has 1 x 1, 3 x 3 and 1 x 1 kernels: at least 17 P² weights."""
        layers, width = [float(number) for number in self._section["layers"]], self["width"]
        stages = sum(17 * (width * 2**stage) ** 2 * number for stage, number in enumerate(layers))
        inner = 32 * width
        pool = 3 * inner**2 + inner * embed_dim + ((self["image_size"] // 32) ** 2 + 1) * inner
        return stages + pool, sum(layers)
