"""Writing a model for others: built beside its place, read as its readers will, and moved there only if they agree."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from workbench.files import new_folder
from workbench.models.clip import Clip
from workbench.models.export.formats import check_format
from workbench.models.export.native import write_native
from workbench.models.export.onnx import write_onnx
from workbench.models.export.probe import Probe
from workbench.models.export.uniform import write_open_clip

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
