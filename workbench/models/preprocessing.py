"""Image normalization of an architecture, for weights files that do not specify it."""

import json
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import open_clip
from open_clip.factory import get_model_config


class Normalization(NamedTuple):
    """Mean and std of the three color channels, in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        return f"mean {_short(self.mean)} and std {_short(self.std)}"


class NormalizationWarning(UserWarning):
    """A default is used because the right mean and std are not known."""


OPENAI = Normalization(tuple(open_clip.OPENAI_DATASET_MEAN), tuple(open_clip.OPENAI_DATASET_STD))
NORMALIZATIONS = {
    "ImageNet's mean and std": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mean and std 0.5": Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
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


def usual_normalization(name: str, source: str) -> Normalization:
    """The normalization of an architecture's pretrained tags, for weights without their own; OpenAI's without tags.

    If the tags disagree it is OpenAI's, with a NormalizationWarning that names the setting.
    """
    known = normalizations_of(name)
    if len(known) > 1:
        warnings.warn(
            f"{source}: pretrained weights of {name} in open_clip differ in image normalization "
            f"({' or '.join(map(str, known))}), and {OPENAI} is used; `workbench teacher import` measures which is "
            "right, or set preprocess_cfg.mean and .std in a config:FILE.json",
            NormalizationWarning,
            stacklevel=2,
        )
    return known[0] if len(known) == 1 else OPENAI


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
