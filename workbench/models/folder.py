"""Model folders in open_clip's own layout, which ``open_clip.create_model("local-dir:...")`` reads too.

``open_clip_config.json`` holds architecture and image preprocessing, ``open_clip_model.safetensors`` the weights, and
``tokenizer.json`` the tokenizer: the workbench's own, or Hugging Face's with its ``tokenizer_config.json``.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from workbench.documents import read_json_table
from workbench.embeddings import CLIPS_RESIZING
from workbench.errors import reason
from workbench.files import write_atomically
from workbench.models.architectures import architecture_name, preprocessing_of, usual_preprocessing
from workbench.models.clip import Clip
from workbench.models.names import CONFIG, OLDER_WEIGHTS, WEIGHTS
from workbench.models.tokenizer_files import TOKENIZER, find_tokenizer
from workbench.models.tokenizers import (
    BytePairTokenizer,
    Tokenizer,
    hugging_face_tokenizer,
    make_tokenizer,
    tokenizer_files,
)
from workbench.models.weights import load_weights, read_weights

__all__ = ["CONFIG", "TOKENIZER", "WEIGHTS", "config_files", "load_folder", "save_folder"]


def config_files(model: Clip) -> dict[str, bytes]:
    """The folder's small files by name: all but the weights."""
    preprocess = {"size": model.input_spec.image_size, "mean": model.mean, "std": model.std}
    if model.resizing != CLIPS_RESIZING:
        preprocess |= {"resize_mode": model.resizing.mode, "interpolation": model.resizing.interpolation}
    config = {"model_cfg": model.config, "preprocess_cfg": preprocess}
    return {CONFIG: (json.dumps(config, indent=2) + "\n").encode(), **tokenizer_files(model.tokenizer)}


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
    remedy = "name a folder that teacher import, inherit, export or open_clip has written"
    config = read_json_table(folder / CONFIG, remedy)
    tokenizer = read_json_table(folder / TOKENIZER, remedy) if (folder / TOKENIZER).exists() else {}
    try:
        model = Clip(
            config["model_cfg"],
            make_tokenizer(tokenizer) if "kind" in tokenizer else _tokenizer(config["model_cfg"]["text_cfg"], folder),
            **_preprocessing(config, str(folder)),
        )
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} is not a model folder, or is damaged: {reason(error)}") from None
    found = [folder / name for name in (WEIGHTS, OLDER_WEIGHTS) if (folder / name).exists()]
    weights = found[0] if found else folder / WEIGHTS  # read_weights reports the missing file
    load_weights(model.towers, read_weights(weights), str(weights))
    return model


def _preprocessing(config: dict[str, Any], source: str) -> dict[str, Any]:
    """Mean, std and resizing from the folder; without mean and std, those of its architecture's pretrained weights."""
    given = preprocessing_of(config.get("preprocess_cfg", {}))
    if given.keys() >= {"mean", "std"}:
        return given
    return usual_preprocessing(architecture_name(config["model_cfg"]), source) | given


def _tokenizer(text: dict[str, Any], folder: Path) -> Tokenizer:
    """The tokenizer of a folder without one of the workbench: Hugging Face's files, or CLIP's byte pairs."""
    if text.get("hf_tokenizer_name"):
        return hugging_face_tokenizer(find_tokenizer(text, folder), text)
    return BytePairTokenizer(text.get("context_length", 77))
