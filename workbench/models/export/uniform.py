"""open_clip's own model folder, where open_clip's settings can say the architecture."""

from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.config.shape import TowerShape
from workbench.models.clip import Clip
from workbench.models.export.native import write_model_folder
from workbench.models.export.probe import Probe, checked
from workbench.models.shapes import TABLES, tower_shape, with_shape

TOLERANCE = 1e-5


def write_open_clip(model: Clip, folder: Path, dtype: torch.dtype) -> float:
    """Write a folder for ``open_clip.create_model("local-dir:...")``.

    Returns:
        the largest difference between the unit-length embeddings of what open_clip reads and the model's.

    Raises:
        ValueError: open_clip has no such architecture.
        MismatchError: open_clip reads another model from it.
    """
    uniform = as_uniform(model)
    write_model_folder(uniform, folder, dtype)
    probe = Probe.of(uniform)
    theirs = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True).eval()
    with torch.no_grad():
        image = theirs.encode_image(_normalised(probe.image_BCHW, open_clip.get_model_preprocess_cfg(theirs)))
        text = theirs.encode_text(probe.text_BL)
    return checked(probe.difference(F.normalize(image, dim=1), F.normalize(text, dim=1)), TOLERANCE, "open_clip")


def as_uniform(model: Clip) -> Clip:
    """The same model in open_clip's settings alone; the very model where it has no others.

    Raises:
        ValueError: they cannot say it, and why.
    """
    config = model.config
    for tower in config.get(TABLES, {}):
        shape = tower_shape(config, tower)
        if not shape.is_plain:
            raise ValueError(f"open_clip has no such {tower} tower ({_oddity(shape)}): take --format native or onnx")
        config = with_shape(config, tower, shape)
    if config is model.config:
        return model
    same = Clip(config, model.tokenizer, mean=model.mean, std=model.std)
    same.towers.load_state_dict(model.towers.state_dict())
    return same.eval()


def _oddity(shape: TowerShape) -> str:
    for what, numbers in (("heads", shape.heads), ("FFN channels", shape.channels)):
        if len(set(numbers)) > 1:
            return f"its layers have {min(numbers)} to {max(numbers)} {what}"
    if not shape.channels[0]:
        return "its layers have no FFN"
    return f"{shape.heads[0]} heads of {shape.head_width} in a width of {shape.width}"


def _normalised(image_BCHW: Tensor, preprocess: dict[str, Any]) -> Tensor:
    """As open_clip's transform leaves pictures."""
    mean, std = (torch.tensor(preprocess[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return (image_BCHW / 255 - mean) / std
