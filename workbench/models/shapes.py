"""Conversion between model configs and the shapes of their transformer towers.

A plain tower is described by open_clip's own settings. Any other has an extra table,
``config["workbench"]["image" or "text"] = {"head_width", "heads", "channels"}``, with one number per layer.
"""

import copy
from typing import Any

from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from workbench.config.inheritance import Tower, TowerShape
from workbench.errors import reason

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
    """The shape of one tower.

    Raises:
        ValueError: not a transformer with standard blocks, or a table that does not match.
    """
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


def with_shape(config: Config, tower: Tower, shape: TowerShape, *, always_table: bool = False) -> Config:
    """The config with one tower in another shape, in open_clip's own settings if they can express it.

    Args:
        always_table: use a table for a plain tower too, so that it is built from the workbench's own blocks.
    """
    config = copy.deepcopy(config)
    section = config[SECTIONS[tower]]
    tables = config.pop(TABLES, {})
    tables.pop(tower, None)
    for name, value in (("width", shape.width), ("layers", shape.num_layers)):
        if getattr(tower_settings(config, tower), name) != value:
            section[name] = value
    if shape.is_plain and not always_table:
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
    """A tower's settings as an open_clip config object, with defaults.

    Raises:
        ValueError: a setting that open_clip does not have.
    """
    try:
        return (CLIPVisionCfg if tower == "image" else CLIPTextCfg)(**config[SECTIONS[tower]])
    except TypeError as error:
        raise ValueError(f"{SECTIONS[tower]} is not open_clip's: {reason(error)}") from None
