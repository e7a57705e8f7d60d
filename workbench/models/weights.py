"""Reading other people's weight files: the usual wrappings undone, and a readable table of what does not fit."""

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from workbench.errors import reason
from workbench.models.names import check_weights

# One name for a set of weights.


@torch.no_grad()
def weights_sha256(module: nn.Module) -> str:
    """SHA-256 over the names and bytes of a module's weights and buffers, hex.

    Within one architecture and dtype, equal exactly for equal weights.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        content = tensor.cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(name.encode() + content.numpy().tobytes())
    return digest.hexdigest()


WRAPPERS = ("state_dict", "model_state_dict", "model", "student")
PREFIXES = ("module.", "_orig_mod.", "towers.")
SHOWN = 8  # lines of each kind in a mismatch table
FLOATING = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
CONSTANTS = ("attn_mask", "input_resolution", "context_length", "vocab_size")  # stored with OpenAI's, learned by none
SCALARS = ("logit_scale", "logit_bias")  # stored as [] or as [1]


class MisfitError(ValueError):
    """The names or shapes of the weights are not the model's."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or PyTorch file, without wrappers and prefixes.

    Pickles are read with ``weights_only``: a file that would run code is refused.

    Raises:
        ValueError: the file is missing, torn, unsafe, or holds no tensors; one line that names it.
    """
    check_weights(path)
    try:
        content = _content(path)
    except Exception as error:  # damaged files make the readers stumble in a dozen ways
        if isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error):
            raise ValueError(
                f"{path} is refused: it is torn, or it holds Python objects that loading would execute; "
                "save its state_dict alone, best as .safetensors"
            ) from None
        raise ValueError(f"cannot read weights from {path}: {reason(error)}; copy or download it again") from None
    tensors = unwrap(content)
    if any(name.startswith("vision_model.") for name in tensors):
        raise ValueError(f"{path} has the names of transformers: take the same model's file in open_clip's form")
    if not tensors:
        raise ValueError(f"{path} holds no tensors under any of the usual names ({', '.join(WRAPPERS)})")
    return tensors


def _content(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch describes an odd file at length, and then raises
        return torch.load(path, map_location="cpu", weights_only=True)


def unwrap(content: Any) -> dict[str, Tensor]:
    """The innermost mapping of names to tensors, with prefixes that wrap every name removed."""
    if not isinstance(content, Mapping):
        return {}
    while inside := next((w for w in WRAPPERS if isinstance(content.get(w), Mapping)), None):
        content = content[inside]
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    while prefix := next((p for p in PREFIXES if tensors and all(n.startswith(p) for n in tensors)), None):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy ``tensors`` into ``module``; all must fit, be of a floating dtype of 16 bits or more, and be finite.

    Constants that some files store with the weights are skipped. ``module`` stays as it was where anything is refused.

    Raises:
        MisfitError: a table of the missing, unexpected and reshaped weights.
        ValueError: one line for weights in int8, float8 or another dtype that is no weight's, for NaN and infinity, and
            for a scale that is not positive and finite.
    """
    wanted = module.state_dict()
    tensors = _without_constants(tensors, wanted)
    missing = [f"missing     {name}" for name in wanted if name not in tensors]
    unexpected = [f"unexpected  {name}" for name in tensors if name not in wanted]
    reshaped = [
        f"reshaped    {name}: model {tuple(wanted[name].shape)}, file {tuple(tensors[name].shape)}"
        for name in wanted
        if name in tensors and wanted[name].shape != tensors[name].shape
    ]
    if missing or unexpected or reshaped:
        rows = [row for kind in (reshaped, missing, unexpected) for row in _shortened(kind)]
        fit = len(wanted) - len(missing) - len(reshaped)
        raise MisfitError(
            f"{source} does not fit the model ({fit} of {len(wanted)} weights do):\n  " + "\n  ".join(rows)
        )
    _check_dtypes(tensors, wanted, source)
    _check_values(tensors, wanted, source)
    module.load_state_dict(dict(tensors))


def _without_constants(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that hold weights, a scale that is stored as [1] or [] in the shape that the model has."""
    kept = {name: x for name, x in tensors.items() if name in wanted or name.rpartition(".")[2] not in CONSTANTS}
    for name in SCALARS:
        if name in kept and name in wanted and kept[name].numel() == wanted[name].numel() == 1:
            kept[name] = kept[name].reshape(wanted[name].shape)
    return kept


def _check_dtypes(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> None:
    """Casting int8 or float8 to float32 gives numbers, but without their separate scales not the weights."""
    odd = [
        f"{name} in {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in tensors.items()
        if (wanted[name].is_floating_point() and tensor.dtype not in FLOATING)
        or (tensor.dtype == torch.bool or tensor.is_complex())
    ]
    if odd:
        raise ValueError(
            f"{source} is refused: it holds {_first_of(odd)}; save the weights as float32, float16 or bfloat16"
        )


def _check_values(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> None:
    cast = {name: tensor.to(wanted[name].dtype) for name, tensor in tensors.items() if tensor.is_floating_point()}
    infinite = [name for name, tensor in cast.items() if not torch.isfinite(tensor).all()]
    if infinite:
        raise ValueError(
            f"{source} is refused: NaN or infinity in {_first_of(infinite)}; it is damaged, or of a training that "
            "diverged: take an earlier checkpoint, or copy it again"
        )
    scale = cast["logit_scale"].exp() if "logit_scale" in cast else torch.ones(())
    if not ((scale > 0) & torch.isfinite(scale)).all():
        raise ValueError(
            f"{source} is refused: exp(logit_scale) must be positive and finite (logit_scale is "
            f"{cast['logit_scale'].item():g}): it is stored as a logarithm, log(100) = 4.6 at most for CLIP"
        )


def _first_of(found: list[str]) -> str:
    return found[0] if len(found) == 1 else f"{found[0]} and {len(found) - 1} more"


def _shortened(rows: list[str]) -> list[str]:
    more = len(rows) - SHOWN
    return rows if more <= 0 else [*rows[:SHOWN], f"... and {more} more {rows[0].split()[0]}"]
