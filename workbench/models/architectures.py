"""Which open_clip architecture a config or a weights file has, and the normalization of its pretrained weights."""

import json
import re
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import open_clip
import torch
from open_clip.constants import IMAGENET_MEAN, IMAGENET_STD, INCEPTION_MEAN, INCEPTION_STD
from open_clip.factory import get_model_config
from torch import Tensor

from workbench.config.inheritance import TOWERS, Tower, TowerShape
from workbench.embeddings import CLIPS_RESIZING, Resizing
from workbench.models.configs import SECTIONS, tower_settings, with_shape
from workbench.models.towers import build_towers
from workbench.models.weights import CONSTANTS, SCALARS

_TEXT_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.")
_VISION_BLOCK = re.compile(r"visual\.transformer\.resblocks\.(\d+)\.")
_STAGE = re.compile(r"visual\.layer([1-4])\.(\d+)\.")
HEAD_WIDTH = 64  # of every ViT and text tower of CLIP up to ViT-L, and of all that TinyCLIP prunes from them
BLOCK = re.compile(r"(visual\.|text\.)?transformer\.resblocks\.(\d+)\.")
BRANCHES = {"attn": "ln_1", "mlp": "ln_2"}  # of a block, with their norms


class Normalization(NamedTuple):
    """Mean and std of the three color channels, in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        return f"mean {_short(self.mean)} and std {_short(self.std)}"


class WeightsWarning(UserWarning):
    """A weights file leaves something open, such as its activation or normalization, and a default is used."""


OPENAI = Normalization(tuple(open_clip.OPENAI_DATASET_MEAN), tuple(open_clip.OPENAI_DATASET_STD))
NORMALIZATIONS = {
    "ImageNet's mean and std": Normalization(IMAGENET_MEAN, IMAGENET_STD),
    "mean and std 0.5": Normalization(INCEPTION_MEAN, INCEPTION_STD),
    "mean 0 and std 1": Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "OpenAI's mean and std": OPENAI,
}


@cache
def normalizations_of(name: str) -> tuple[Normalization, ...]:
    """Normalizations of an architecture's pretrained tags in open_clip, OpenAI's first; empty without tags."""
    found = set()
    for tag in open_clip.list_pretrained_tags_by_model(name):
        cfg = open_clip.get_pretrained_cfg(name, tag)
        found.add(Normalization(tuple(cfg.get("mean") or OPENAI.mean), tuple(cfg.get("std") or OPENAI.std)))
    return tuple(sorted(found, key=lambda one: (one != OPENAI, one)))


def usual_resizing(name: str) -> Resizing:
    """The resizing of an architecture's pretrained tags; where they disagree or there are none, CLIP's own."""
    tags = (open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name))
    found = {preprocessing_of(cfg).get("resizing", CLIPS_RESIZING) for cfg in tags}
    return found.pop() if len(found) == 1 else CLIPS_RESIZING


def usual_preprocessing(name: str, source: str) -> dict[str, Any]:
    """Mean, std and resizing of an architecture's pretrained tags, for weights without their own.

    If the tags disagree in mean and std, there is a WeightsWarning (:func:`usual_normalization`).
    """
    return {**usual_normalization(name, source)._asdict(), "resizing": usual_resizing(name)}


def preprocessing_of(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Mean, std and resizing as a pretrained tag or a ``preprocess_cfg`` states them, without those that it lacks."""
    given = {key: cfg[key] for key in ("mean", "std") if key in cfg}
    if "resize_mode" in cfg or "interpolation" in cfg:
        given["resizing"] = Resizing(cfg.get("resize_mode") or "shortest", cfg.get("interpolation") or "bicubic")
    return given


def usual_normalization(name: str, source: str) -> Normalization:
    """The normalization of an architecture's pretrained tags, for weights without their own; OpenAI's without tags.

    If the tags disagree it is OpenAI's, with a WeightsWarning that names the setting.
    """
    known = normalizations_of(name)
    if len(known) > 1:
        warnings.warn(
            f"{source}: pretrained weights of {name} in open_clip differ in image normalization "
            f"({' or '.join(map(str, known))}), and {OPENAI} is used; `workbench teacher import` measures which is "
            "right, or set preprocess_cfg.mean and .std in a config:FILE.json",
            WeightsWarning,
            stacklevel=2,
        )
    return known[0] if len(known) == 1 else OPENAI


def leaves_activation_open(name: str) -> bool:
    """Whether weights of this architecture may have GELU or QuickGELU; open_clip has two names for most of these."""
    return not normalizations_of(name) or f"{name}-quickgelu" in open_clip.list_models()


def architecture_name(config: Mapping[str, Any]) -> str:
    """The open_clip name of this config, ignoring the activation; empty if there is none."""
    wanted = _comparable(config)
    for name in open_clip.list_models():
        if _comparable(get_model_config(name)) == wanted and normalizations_of(name):
            return str(name)
    return ""


def _comparable(config: Mapping[str, Any]) -> str:
    # The activation does not affect normalization.
    return json.dumps({key: value for key, value in config.items() if key != "quick_gelu"}, sort_keys=True)


def _short(values: tuple[float, ...]) -> str:
    return f"{values[0]:.3g}" if len(set(values)) == 1 else f"({', '.join(f'{value:.3g}' for value in values)})"


def fitting_architectures(tensors: Mapping[str, Tensor], configs: Mapping[str, dict[str, Any]]) -> list[str]:
    """Names of the configs whose shapes are those of the weights, without QuickGELU first.

    Shapes leave open the activation and the number of heads.
    """
    if any(name.startswith("visual.trunk.") for name in tensors):
        names = [name for name, config in configs.items() if _has_timm_shapes(config, tensors)]
    else:
        found = _sizes_of_weights(tensors)
        names = [name for name, config in configs.items() if found and _sizes_of_config(config) == found]
    return sorted(names, key=lambda name: bool(configs[name].get("quick_gelu")))


def _sizes_of_config(config: dict[str, Any]) -> tuple[Any, ...] | None:
    """The sizes that shapes of weights show; None for towers from other libraries."""
    if config["vision_cfg"].get("timm_model_name") or config["text_cfg"].get("hf_model_name"):
        return None
    vision, text = tower_settings(config, "image"), tower_settings(config, "text")
    # A ResNet has no patches, and a number of blocks for each of its stages.
    is_resnet = isinstance(vision.layers, list)
    patch_size, layers = (None, tuple(vision.layers)) if is_resnet else (vision.patch_size, vision.layers)
    image = vision.image_size, patch_size, vision.width, layers
    return (config["embed_dim"], *image, text.vocab_size, text.context_length, text.width, text.layers)


def _has_timm_shapes(config: dict[str, Any], tensors: Mapping[str, Tensor]) -> bool:
    """Whether a config with a tower of timm has exactly the weights, such as SigLIP's or MobileCLIP's."""
    named, text = _shapes(tensors), tower_settings(config, "text")
    tables = {
        "token_embedding.weight": (text.vocab_size, text.width),
        "positional_embedding": (text.context_length, text.width),
    }
    # A quick look first: only timm knows the shapes of its towers, and each takes it a fraction of a second to make.
    is_other = not config["vision_cfg"].get("timm_model_name") or config["text_cfg"].get("hf_model_name")
    if is_other or "multimodal_cfg" in config or any(named.get(name) != own for name, own in tables.items()):
        return False
    with torch.device("meta"):  # no memory is allocated
        expected = build_towers(config).state_dict()
    return _shapes(expected) == named and ("logit_bias" in expected) <= ("logit_bias" in tensors)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes of all weights but scalars, which are stored as [] or [1], with the text tower's names in short."""
    kept = {name: tuple(tensor.shape) for name, tensor in tensors.items() if name not in (*SCALARS, *CONSTANTS)}
    return {name.removeprefix("text."): shape for name, shape in kept.items()}


def _sizes_of_weights(tensors: Mapping[str, Tensor]) -> tuple[Any, ...] | None:
    """The same for weights; None if the names are not open_clip's."""
    named = {name.removeprefix("text."): tensor for name, tensor in tensors.items()}
    try:
        image = _resnet_sizes(named) if "visual.layer1.0.conv1.weight" in named else _vit_sizes(named)
        vocab_size, text_width = named["token_embedding.weight"].shape
        text = (vocab_size, len(named["positional_embedding"]), text_width, _count(_TEXT_BLOCK, named))
        return (named["text_projection"].shape[1], *image, *text)
    except (KeyError, ValueError, IndexError):
        return None


def _vit_sizes(named: Mapping[str, Tensor]) -> tuple[Any, ...]:
    width, _, patch_size, _ = named["visual.conv1.weight"].shape
    # One position per patch, plus the class token.
    side = round((len(named["visual.positional_embedding"]) - 1) ** 0.5)
    return (side * patch_size, patch_size, width, _count(_VISION_BLOCK, named))


def _resnet_sizes(named: Mapping[str, Tensor]) -> tuple[Any, ...]:
    width = 2 * len(named["visual.conv1.weight"])  # the first stem convolution has half the width
    side = round((len(named["visual.attnpool.positional_embedding"]) - 1) ** 0.5)
    blocks = {match.groups() for name in named if (match := _STAGE.match(name))}
    stages = [stage for stage, _ in blocks]
    return (side * 32, None, width, tuple(stages.count(stage) for stage in "1234"))


def _count(block: re.Pattern[str], names: Mapping[str, Tensor]) -> int:
    return len({match[1] for name in names if (match := block.match(name))})


def config_of(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The model config of two transformer towers, in open_clip's names, with heads of 64 channels.

    Layers may differ in heads and FFN channels, as those of TinyCLIP's automatic inheritance; a layer without any
    tensors of a branch has lost all of its heads or channels. The activation cannot be read off: it is GELU.

    Raises:
        ValueError: the image tower is no ViT, or the text tower no transformer of open_clip.
    """
    text = "text." if "text.token_embedding.weight" in tensors else ""
    try:
        width, _, patch_size, _ = tensors["visual.conv1.weight"].shape
        positions = len(tensors["visual.positional_embedding"])
        embed_dim = tensors["visual.proj"].shape[1]
        vocab_size, text_width = tensors[f"{text}token_embedding.weight"].shape
        context_length = len(tensors[f"{text}positional_embedding"])
        shapes: dict[Tower, TowerShape] = {
            "image": _tower_shape(tensors, "visual.", width),
            "text": _tower_shape(tensors, text, text_width),
        }
    except (KeyError, ValueError) as error:
        raise ValueError(f"the tensors are not those of a ViT and a text transformer of open_clip ({error})") from None
    config: dict[str, Any] = {
        "embed_dim": embed_dim,
        # One position per patch, plus the class token.
        "vision_cfg": {"image_size": round((positions - 1) ** 0.5) * patch_size, "patch_size": patch_size},
        "text_cfg": {"context_length": context_length, "vocab_size": vocab_size},
    }
    for tower in TOWERS:
        shape = shapes[tower]
        config[SECTIONS[tower]] |= {"width": shape.width, "layers": shape.num_layers}
        config = with_shape(config, tower, shape)
    return config


def with_empty_branches(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors with a zero bias for each branch that lost all heads or channels, and the names of these biases.

    The released files drop such a branch whole; its output bias, which the model added before, is not in the file.
    """
    widths = {prefix: len(tensors[name]) for prefix in ("visual.", "text.", "") if (name := _norm(prefix)) in tensors}
    added = {
        f"{prefix}transformer.resblocks.{layer}.{branch}.bias": torch.zeros(width)
        for prefix, width in widths.items()
        for layer in range(_num_layers(tensors, prefix))
        for branch in BRANCHES
        if not any(name.startswith(f"{prefix}transformer.resblocks.{layer}.{branch}.") for name in tensors)
    }
    return {**tensors, **added}, list(added)


def _norm(prefix: str) -> str:
    """The name of a tower's last norm, which every transformer of CLIP has."""
    return "visual.ln_post.weight" if prefix == "visual." else f"{prefix}ln_final.weight"


def _num_layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    numbers = [int(match[2]) for name in tensors if (match := BLOCK.match(name)) and (match[1] or "") == prefix]
    return max(numbers, default=-1) + 1


def _tower_shape(tensors: Mapping[str, Tensor], prefix: str, width: int) -> TowerShape:
    layers = range(_num_layers(tensors, prefix))
    blocks = [f"{prefix}transformer.resblocks.{layer}." for layer in layers]
    rows = [len(tensors.get(f"{block}attn.in_proj_weight", ())) for block in blocks]
    if any(count % (3 * HEAD_WIDTH) for count in rows):
        raise ValueError(f"attention of {max(rows) // 3} channels, which are no heads of {HEAD_WIDTH}")
    return TowerShape(
        width=width,
        head_width=HEAD_WIDTH,
        heads=tuple(count // (3 * HEAD_WIDTH) for count in rows),
        channels=tuple(len(tensors.get(f"{block}mlp.c_fc.weight", ())) for block in blocks),
    )
