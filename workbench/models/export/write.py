"""Writing a model for others: built beside its place, read as its readers will, and moved there only if they agree."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.config.inheritance import TowerShape
from workbench.files import new_folder
from workbench.models.clip import Clip
from workbench.models.export.formats import check_format
from workbench.models.export.native import Probe, checked, write_model_folder, write_native
from workbench.models.export.onnx import write_onnx
from workbench.models.shapes import TABLES, tower_shape, with_shape

# open_clip's own model folder, where open_clip's settings can say the architecture.

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
        image = theirs.encode_image(_normalized(probe.image_BCHW, open_clip.get_model_preprocess_cfg(theirs)))
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


def _normalized(image_BCHW: Tensor, preprocess: dict[str, Any]) -> Tensor:
    """As open_clip's transform leaves images."""
    mean, std = (torch.tensor(preprocess[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return (image_BCHW / 255 - mean) / std


WRITERS: dict[str, Callable[[Clip, Path, torch.dtype], float]] = {
    "native": write_native,
    "open_clip": write_open_clip,
    "onnx": lambda model, folder, _: write_onnx(model, folder),
}


@dataclass(frozen=True)
class Exported:
    """What was written, with the bytes of every file, and how far its embeddings are from the model's."""

    folder: Path
    sizes: dict[str, int]
    max_abs_difference: float

    @property
    def size_mb(self) -> float:
        return sum(self.sizes.values()) / 1e6


def export_model(model: Clip, folder: Path, format: str, *, half: bool = False) -> Exported:
    """Write a model, without anything that only its training needed, to a folder of its own.

    Args:
        model: on the CPU, in evaluation mode.
        folder: new, or empty.
        format: one of :data:`~workbench.models.export.formats.FORMATS`.
        half: float16 weights; they are read back as float32.

    Raises:
        ValueError: the format is unknown or cannot hold this model, weights are not finite, or the folder is taken.
        MismatchError: what was written is read as another model; nothing is left of it.
        OSError: the folder cannot be written, or the disk is full; nothing is left of it.
    """
    check_format(format, half=half)
    target = folder.resolve()
    if target == Path.cwd():
        raise ValueError(f"{folder} is the folder that you are in: name a new one with --out DIR")
    _check_finite(model, "export an earlier checkpoint")
    written = _rounded(model) if half else model
    try:
        with new_folder(folder) as building:
            difference = WRITERS[format](written, building, torch.float16 if half else torch.float32)
    except FileExistsError:
        raise ValueError(f"{folder} exists already: name another with --out DIR") from None
    sizes = {path.name: path.stat().st_size for path in sorted(target.iterdir())}
    return Exported(folder, sizes, max(difference, _rounding(model, written)))


def _rounded(model: Clip) -> Clip:
    """The model that float16 weights are."""
    rounded = copy.deepcopy(model)
    for tensor in rounded.towers.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
    _check_finite(rounded, "float16 cannot hold them; drop --half")
    return rounded


@torch.no_grad()
def _rounding(model: Clip, written: Clip) -> float:
    if written is model:
        return 0.0
    probe = Probe.of(model)
    found = written.embed(probe.image_BCHW, probe.text_BL)
    return probe.difference(found.image_BD, found.text_BD)


def _check_finite(model: Clip, remedy: str) -> None:
    for name, tensor in model.towers.state_dict().items():
        if not tensor.isfinite().all():
            raise ValueError(f"the weights {name} are not finite: {remedy}")
