"""Which architectures a file of weights fits: its shapes say almost all of a model's config."""

import re
from collections.abc import Mapping
from typing import Any

from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from torch import Tensor

Description = tuple[Any, ...]

_TEXT_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.")
_VISION_BLOCK = re.compile(r"visual\.transformer\.resblocks\.(\d+)\.")
_STAGE = re.compile(r"visual\.layer([1-4])\.(\d+)\.")


def fitting_architectures(tensors: Mapping[str, Tensor], configs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The names of the configs with the shapes of these weights, those with the usual activation first.

    What shapes do not show is left open: the activation, and into how many heads a width is divided.
    """
    found = _described(tensors)
    names = [name for name, config in configs.items() if found and _description(config) == found]
    return sorted(names, key=lambda name: bool(configs[name].get("quick_gelu")))


def _description(config: Mapping[str, Any]) -> Description | None:
    """What a config says of shapes; None for towers that are not open_clip's own."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    if vision.get("timm_model_name") or text.get("hf_model_name"):
        return None
    image, caption = (
        {name: section.get(name, getattr(defaults, name)) for name in names}
        for section, defaults, names in (
            (vision, CLIPVisionCfg(), ("image_size", "patch_size", "width", "layers")),
            (text, CLIPTextCfg(), ("vocab_size", "context_length", "width", "layers")),
        )
    )
    if isinstance(image["layers"], list):
        image |= {"patch_size": None, "layers": tuple(image["layers"])}
    return (config["embed_dim"], *image.values(), *caption.values())


def _described(tensors: Mapping[str, Tensor]) -> Description | None:
    """The same, read from the weights; None where the names are not those of open_clip."""
    named = {name.removeprefix("text."): tensor for name, tensor in tensors.items()}
    try:
        vocab_size, text_width = named["token_embedding.weight"].shape
        text = (vocab_size, len(named["positional_embedding"]), text_width, _count(_TEXT_BLOCK, named))
        image = _resnet(named) if "visual.layer1.0.conv1.weight" in named else _vit(named)
        return (named["text_projection"].shape[1], *image, *text)
    except (KeyError, ValueError, IndexError):
        return None


def _vit(named: Mapping[str, Tensor]) -> Description:
    width, _, patch_size, _ = named["visual.conv1.weight"].shape
    side = round((len(named["visual.positional_embedding"]) - 1) ** 0.5)
    return (side * patch_size, patch_size, width, _count(_VISION_BLOCK, named))


def _resnet(named: Mapping[str, Tensor]) -> Description:
    width = 2 * len(named["visual.conv1.weight"])
    side = round((len(named["visual.attnpool.positional_embedding"]) - 1) ** 0.5)
    blocks = {match.groups() for name in named if (match := _STAGE.match(name))}
    stages = [stage for stage, _ in blocks]
    return (side * 32, None, width, tuple(stages.count(stage) for stage in "1234"))


def _count(block: re.Pattern[str], names: Mapping[str, Tensor]) -> int:
    return len({match[1] for name in names if (match := block.match(name))})
