"""Reading weights files: wrappers are removed, mismatches are listed in a table."""

import argparse
import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from workbench.errors import reason
from workbench.models.names import check_weights
from workbench.models.released import in_open_clips_names, renamed_swin

# EMA weights are taken where a file has no others; timm calls them state_dict_ema, older code model_ema.
WRAPPERS = ("state_dict", "model_state_dict", "model", "student", "state_dict_ema", "model_ema")
# Training scripts pickle their options and last metrics with the weights; none of these runs code when it is loaded.
_NUMPY_SCALAR: Any = np.float64().__reduce__()[0]  # the function that unpickles one; numpy 1 has it in another module
HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")),
    _NUMPY_SCALAR,
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
]
SHOWN = 8  # lines per kind in a mismatch table
FLOATING = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
CONSTANTS = ("attn_mask", "input_resolution", "context_length", "vocab_size")  # in OpenAI's files, not weights
SCALARS = ("logit_scale", "logit_bias")  # stored as [] or as [1]


@torch.no_grad()
def weights_sha256(module: nn.Module) -> str:
    """SHA-256 over the names and bytes of a module's weights and buffers, hex.

    Within one architecture and dtype, equal if and only if the weights are.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        # Bytes, not values: -0.0 and 0.0 are different weights, and bfloat16 has no numpy dtype.
        content = tensor.cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(name.encode() + content.numpy().tobytes())
    return digest.hexdigest()


class MisfitError(ValueError):
    """Names or shapes of weights do not match the model."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or PyTorch file, without wrappers and prefixes.

    Pickles are loaded with ``weights_only``: a file that would run code is refused.

    Raises:
        ValueError: a missing, damaged or unsafe file, or one without tensors; one line with its path.
    """
    check_weights(path)
    try:
        content = _content(path)
    except Exception as error:  # damaged files make the readers fail in many ways
        if isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error):
            raise ValueError(
                f"{path} is refused: it is truncated, or it holds Python objects that loading would execute; "
                "save its state_dict alone, best as .safetensors"
            ) from None
        raise ValueError(f"cannot read weights from {path}: {reason(error)}; copy or download it again") from None
    try:
        tensors = unwrap(content)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is refused: {reason(error)}") from None
    if not tensors:
        raise ValueError(f"{path} holds no tensors under any of the usual names ({', '.join(WRAPPERS)})")
    return tensors


def _content(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    with warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
        warnings.simplefilter("ignore")  # torch warns about odd files, and then raises
        return torch.load(path, map_location="cpu", weights_only=True)


def unwrap(content: Any) -> dict[str, Tensor]:
    """The innermost mapping of names to tensors, in open_clip's names."""
    if not isinstance(content, Mapping):  # a list, a tensor
        return {}
    while inside := next((w for w in WRAPPERS if isinstance(content.get(w), Mapping)), None):
        content = content[inside]
    return in_open_clips_names({str(name): value for name, value in content.items() if isinstance(value, Tensor)})


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy ``tensors`` into ``module``. All must match, have a floating dtype of at least 16 bits, and be finite.

    Constants that some files store with the weights are skipped. On an error, ``module`` is unchanged.

    Raises:
        MisfitError: a table of missing, unexpected and reshaped weights.
        ValueError: int8, float8 or another dtype that weights do not have, NaN or infinity, or a scale that is not
            positive and finite.
    """
    wanted = module.state_dict()
    tensors = _without_constants(renamed_swin(_with_text_prefix_of(wanted, tensors)), wanted)
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


def _with_text_prefix_of(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The text tower's weights with or without ``text.``, as the model names them: both classes of open_clip do."""
    if "logit_scale" not in wanted:  # not a CLIP, but a part of one
        return dict(tensors)
    prefix = "text." if any(name.startswith("text.") for name in wanted) else ""
    return {
        name if name.startswith("visual.") or name in SCALARS else prefix + name.removeprefix("text."): value
        for name, value in tensors.items()
    }


def _without_constants(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that hold weights; a scale stored as [1] or [] is reshaped to the model's shape."""
    kept = {name: x for name, x in tensors.items() if name in wanted or name.rpartition(".")[2] not in CONSTANTS}
    for name in SCALARS:
        if name in kept and name in wanted and kept[name].numel() == wanted[name].numel() == 1:
            kept[name] = kept[name].reshape(wanted[name].shape)
    return kept


def _check_dtypes(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> None:
    """Refuse int8 and float8: cast to float32 without their separate scales, they are not the weights."""
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
            f"{source} is refused: NaN or infinity in {_first_of(infinite)}; it is damaged, or from a run that "
            "diverged: use an earlier checkpoint, or copy it again"
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
