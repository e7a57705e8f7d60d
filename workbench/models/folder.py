"""Model folders in open_clip's own layout, which ``open_clip.create_model("local-dir:...")`` reads too.

``open_clip_config.json`` holds architecture and image normalization, ``open_clip_model.safetensors`` the weights, and
``tokenizer.json`` the tokenizer.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from workbench.documents import read_json
from workbench.errors import reason
from workbench.files import write_atomically
from workbench.models.architectures import architecture_name, usual_normalization
from workbench.models.clip import Clip
from workbench.models.names import CONFIG, OLDER_WEIGHTS, TOKENIZER, WEIGHTS
from workbench.models.tokenizers import make_tokenizer
from workbench.models.weights import load_weights, read_weights

__all__ = ["CONFIG", "TOKENIZER", "WEIGHTS", "config_files", "load_folder", "save_folder"]


def config_files(model: Clip) -> dict[str, bytes]:
    """The folder's small files by name: all but the weights."""
    preprocess = {"size": model.input_spec.image_size, "mean": model.mean, "std": model.std}
    config = {"model_cfg": model.config, "preprocess_cfg": preprocess}
    return {
        CONFIG: (json.dumps(config, indent=2) + "\n").encode(),
        TOKENIZER: (json.dumps(model.tokenizer.spec) + "\n").encode(),
    }


def save_folder(model: Clip, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the model to ``folder``, with weights rounded to ``dtype``; integer buffers keep their dtype.

    The folder is not written atomically: for that, write into one from :func:`~workbench.files.new_folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.to(dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in model.towers.state_dict().items()
    }
    for name, content in (config_files(model) | {WEIGHTS: save(weights)}).items():
        write_atomically(folder / name, content)


def load_folder(folder: Path) -> Clip:
    """The model in ``folder``, in float32; folders that open_clip published on the Hugging Face hub are supported.

    Raises:
        ValueError: a missing or damaged file, or an unsupported tokenizer.
    """
    config = _read_json(folder / CONFIG)
    tokenizer = _read_json(folder / TOKENIZER) if (folder / TOKENIZER).exists() else {}
    try:
        model = Clip(
            config["model_cfg"],
            make_tokenizer(tokenizer if "kind" in tokenizer else _clips_tokenizer(config["model_cfg"]["text_cfg"])),
            **_normalization(config, str(folder)),
        )
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} is not a model folder, or is damaged: {reason(error)}") from None
    found = [folder / name for name in (WEIGHTS, OLDER_WEIGHTS) if (folder / name).exists()]
    weights = found[0] if found else folder / WEIGHTS  # read_weights reports the missing file
    load_weights(model.towers, read_weights(weights), str(weights))
    return model


def _normalization(config: dict[str, Any], source: str) -> dict[str, Any]:
    """Mean and std from the folder, otherwise those of its architecture's pretrained weights."""
    given = {key: value for key, value in config.get("preprocess_cfg", {}).items() if key in ("mean", "std")}
    if len(given) == 2:
        return given
    return usual_normalization(architecture_name(config["model_cfg"]), source)._asdict() | given


def _clips_tokenizer(text: dict[str, Any]) -> dict[str, Any]:
    """The spec of CLIP's byte-pair tokenizer, the default for folders without a tokenizer of the workbench."""
    if foreign := text.get("hf_tokenizer_name"):
        raise ValueError(f"it needs the tokenizer {foreign}, which is not supported")
    return {"kind": "bpe", "context_length": text.get("context_length", 77)}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except OSError as error:
        raise ValueError(f"no model here: cannot read {path} ({error.strerror})") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object")
    return content
