"""Reading other people's weight files: the usual wrappings undone, and a readable table of what does not fit."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from workbench.models.names import check_weights
from workbench.models.reasons import reason

WRAPPERS = ("state_dict", "model_state_dict", "model", "student")
PREFIXES = ("module.", "_orig_mod.", "towers.")
SHOWN = 8  # lines of each kind in a mismatch table


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
    """Copy ``tensors`` into ``module``; all must fit.

    Raises:
        ValueError: a table of the missing, unexpected and reshaped weights.
    """
    wanted = module.state_dict()
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
        raise ValueError(
            f"{source} does not fit the model ({fit} of {len(wanted)} weights do):\n  " + "\n  ".join(rows)
        )
    module.load_state_dict(dict(tensors))


def _shortened(rows: list[str]) -> list[str]:
    more = len(rows) - SHOWN
    return rows if more <= 0 else [*rows[:SHOWN], f"... and {more} more {rows[0].split()[0]}"]
