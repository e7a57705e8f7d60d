"""Export of a model: written to a temporary folder, read back as users will, and renamed if the outputs match."""

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
from workbench.files import new_folder, resolved
from workbench.models.clip import Clip
from workbench.models.export.formats import check_format
from workbench.models.export.native import Probe, checked, write_model_folder, write_native
from workbench.models.export.onnx import write_onnx
from workbench.models.shapes import TABLES, tower_shape, with_shape

TOLERANCE = 1e-5


def write_open_clip(model: Clip, folder: Path, dtype: torch.dtype) -> float:
    """Write a folder for ``open_clip.create_model("local-dir:...")``.

    Returns:
        the largest difference between the unit-length embeddings of the model that open_clip reads and the model's.

    Raises:
        ValueError: open_clip has no such architecture.
        MismatchError: open_clip's model gives other embeddings.
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
    """The model with a config of open_clip's settings only; the same object if it has no others.

    Raises:
        ValueError: these settings cannot express it, with the reason.
    """
    config = model.config
    for tower in config.get(TABLES, {}):
        shape = tower_shape(config, tower)
        if not shape.is_plain:
            raise ValueError(f"open_clip has no such {tower} tower ({_oddity(shape)}): use --format native or onnx")
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
    """Images as open_clip's transform returns them."""
    mean, std = (torch.tensor(preprocess[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return (image_BCHW / 255 - mean) / std


WRITERS: dict[str, Callable[[Clip, Path, torch.dtype], float]] = {
    "native": write_native,
    "open_clip": write_open_clip,
    "onnx": lambda model, folder, _: write_onnx(model, folder),
}


@dataclass(frozen=True)
class Exported:
    """An exported folder: the size of each file in bytes, and the largest difference of its embeddings."""

    folder: Path
    sizes: dict[str, int]
    max_abs_difference: float

    @property
    def size_mb(self) -> float:
        return sum(self.sizes.values()) / 1e6


def export_model(model: Clip, folder: Path, format: str, *, half: bool = False) -> Exported:
    """Write a model, without what only training needs, to a new folder.

    Args:
        model: on the CPU, in evaluation mode.
        folder: new, or empty.
        format: one of :data:`~workbench.models.export.formats.FORMATS`.
        half: store weights in float16; they are read back as float32.

    Raises:
        ValueError: an unknown format or one that cannot hold this model, weights that are not finite, or an existing
            folder.
        MismatchError: the exported model gives other embeddings; nothing is left of it.
        OSError: the folder cannot be written, or the disk is full; nothing is left of it.
    """
    check_format(format, half=half)
    target = resolved(folder)
    if target == Path.cwd():
        raise ValueError(f"{folder} is the current directory: name a new one with --out DIR")
    _check_finite(model, "export an earlier checkpoint")  # NaN would fail the check below without saying why
    written = _rounded(model) if half else model
    try:
        with new_folder(folder) as building:
            difference = WRITERS[format](written, building, torch.float16 if half else torch.float32)
    except FileExistsError:
        raise ValueError(f"{folder} exists already: name another with --out DIR") from None
    sizes = {path.name: path.stat().st_size for path in sorted(target.iterdir())}
    return Exported(folder, sizes, max(difference, _rounding(model, written)))


def _rounded(model: Clip) -> Clip:
    """The model with weights rounded to float16."""
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
