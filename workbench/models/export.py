"""Export of a model: written to a temporary folder, read back as users will, and renamed if the outputs match."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.config.inheritance import TowerShape
from workbench.files import new_folder, resolved, write_atomically
from workbench.models.clip import Clip
from workbench.models.configs import TABLES, tower_shape, with_shape
from workbench.models.folder import load_folder, save_folder
from workbench.models.names import check_format
from workbench.models.onnx_export import Embed, write_onnx
from workbench.models.tokenizers import tokenizer_files
from workbench.models.transformers_export import write_transformers

CAPTIONS = (
    "",
    "a photo of a dog",
    "two red circles left of a blue square",
    "Łódź, 42 %!",
    "word " * 100,
    "a",
    "small green triangle",
    "THE SAME TWICE, THE SAME TWICE",
)


class MismatchError(RuntimeError):
    """An exported model gives other embeddings than its source."""


@dataclass(frozen=True)
class Exported:
    """An exported folder: the size of each file in bytes, and the largest difference of its embeddings."""

    folder: Path
    sizes: dict[str, int]
    max_abs_difference: float

    @property
    def size_mb(self) -> float:
        return sum(self.sizes.values()) / 1e6


@dataclass(frozen=True)
class Writer:
    """How a format is written, and how the files are checked: by whom, how closely, and at which batch sizes.

    ``write(model, folder, dtype)`` returns a function that embeds pairs with what is in the folder.
    """

    write: Callable[[Clip, Path, torch.dtype], Embed]
    reader: str
    tolerance: float
    batch_sizes: tuple[int, ...] = (len(CAPTIONS),)


def export_model(
    model: Clip, folder: Path, format: str, *, half: bool = False, documents: Mapping[str, bytes] | None = None
) -> Exported:
    """Write a model, without what only training needs, to a new folder.

    Args:
        model: on the CPU, in evaluation mode.
        folder: new, or empty.
        format: one of :data:`~workbench.models.names.FORMATS`.
        half: store weights in float16; they are read back as float32.
        documents: other files to put into the folder, by name, such as a model card.

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
    written, writer = _rounded(model) if half else model, WRITERS[format]
    try:
        with new_folder(folder) as building:
            embed = writer.write(written, building, torch.float16 if half else torch.float32)
            difference = largest_difference(written, embed, writer.batch_sizes)
            if not difference <= writer.tolerance:  # also True for NaN
                raise MismatchError(
                    f"as {writer.reader} reads it, the exported unit-length embeddings differ from the model's by "
                    f"{difference:.2g}, more than {writer.tolerance:g}: nothing was written; try another --format"
                )
            for name, content in (documents or {}).items():
                write_atomically(building / name, content)
    except FileExistsError:
        raise ValueError(f"{folder} exists already: name another with --out DIR") from None
    sizes = {path.name: path.stat().st_size for path in sorted(target.iterdir())}
    return Exported(folder, sizes, max(difference, largest_difference(model, _embed(written))))


@torch.no_grad()
def largest_difference(model: Clip, embed: Embed, batch_sizes: tuple[int, ...] = (len(CAPTIONS),)) -> float:
    """The largest absolute difference of unit-length embeddings of noise and captions; NaN if one is."""
    shape = (len(CAPTIONS), 3, model.image_size, model.image_size)
    image_BCHW = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    text_BL = model.tokenizer(CAPTIONS)
    expected = _embed(model)(image_BCHW, text_BL)
    # In a tensor, as its maximum is NaN where one value is; Python's max() would depend on the order.
    differences = [
        (found_BD - wanted_BD[:size]).abs().max()
        for size in batch_sizes
        for found_BD, wanted_BD in zip(embed(image_BCHW[:size], text_BL[:size]), expected, strict=True)
    ]
    return torch.stack(differences).max().item()


def _embed(model: Clip) -> Embed:
    def embed(image_BCHW: Tensor, text_BL: Tensor) -> tuple[Tensor, Tensor]:
        embeddings = model.embed(image_BCHW, text_BL)
        return embeddings.image_BD, embeddings.text_BD

    return embed


def write_folder(model: Clip, folder: Path, dtype: torch.dtype) -> None:
    """Write a model folder whose ``tokenizer.json``, unless it is Hugging Face's, also has its rule in words."""
    save_folder(model, folder, dtype)
    for name, content in tokenizer_files(model.tokenizer, with_rule=True).items():
        write_atomically(folder / name, content)


def write_native(model: Clip, folder: Path, dtype: torch.dtype) -> Embed:
    """The workbench's own model folder, read by ``workbench.load_student``, for any architecture."""
    write_folder(model, folder, dtype)
    return _embed(load_folder(folder).eval())


def write_open_clip(model: Clip, folder: Path, dtype: torch.dtype) -> Embed:
    """A folder for ``open_clip.create_model("local-dir:...")``."""
    write_folder(as_uniform(model), folder, dtype)
    theirs = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True).eval()
    preprocess = open_clip.get_model_preprocess_cfg(theirs)
    mean, std = (torch.tensor(preprocess[name]).view(1, 3, 1, 1) for name in ("mean", "std"))

    def embed(image_BCHW: Tensor, text_BL: Tensor) -> tuple[Tensor, Tensor]:
        image_BD, text_BD = theirs.encode_image((image_BCHW / 255 - mean) / std), theirs.encode_text(text_BL)
        return F.normalize(image_BD, dim=1), F.normalize(text_BD, dim=1)

    return embed


WRITERS = {
    "native": Writer(write_native, "the workbench", 1e-6),
    "open_clip": Writer(write_open_clip, "open_clip", 1e-5),
    "transformers": Writer(lambda model, *rest: write_transformers(as_uniform(model), *rest), "transformers", 1e-5),
    "onnx": Writer(write_onnx, "onnxruntime", 1e-4, batch_sizes=(1, 3, len(CAPTIONS))),  # its batch size is dynamic
}


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
    same = Clip(config, model.tokenizer, **model.preprocessing)
    same.towers.load_state_dict(model.towers.state_dict())
    return same.eval()


def _oddity(shape: TowerShape) -> str:
    for what, numbers in (("heads", shape.heads), ("FFN channels", shape.channels)):
        if len(set(numbers)) > 1:
            return f"its layers have {min(numbers)} to {max(numbers)} {what}"
    if not shape.channels[0]:
        return "its layers have no FFN"
    return f"{shape.heads[0]} heads of {shape.head_width} in a width of {shape.width}"


def _rounded(model: Clip) -> Clip:
    """The model with weights rounded to float16."""
    rounded = copy.deepcopy(model)
    for tensor in rounded.towers.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
    _check_finite(rounded, "float16 cannot hold them; drop --half")
    return rounded


def _check_finite(model: Clip, remedy: str) -> None:
    for name, tensor in model.towers.state_dict().items():
        if not tensor.isfinite().all():
            raise ValueError(f"the weights {name} are not finite: {remedy}")
