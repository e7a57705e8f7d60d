"""Export as transformers' CLIPModel: two plain towers, with the config that ``from_pretrained`` reads."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from workbench.config.inheritance import TOWERS, Tower
from workbench.files import write_atomically
from workbench.models.clip import Clip
from workbench.models.configs import tower_settings, tower_shape
from workbench.models.onnx_export import Embed
from workbench.models.released import to_transformers
from workbench.models.weights import load_weights, read_weights

WEIGHTS = "model.safetensors"
RESAMPLES = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers, which transformers stores
# transformers pools the text at the highest token id, as open_clip does, where this is the end token's id.
END_OF_HIGHEST_ID = 2


def write_transformers(model: Clip, folder: Path, dtype: torch.dtype) -> Embed:
    """A folder for ``transformers.CLIPModel.from_pretrained``.

    It is read back with transformers where that is installed, and otherwise by our own reader of its names.

    Raises:
        ValueError: a tower that CLIPModel does not have: not a plain transformer, or with other settings.
    """
    if model.bias is not None:
        raise ValueError(
            "transformers' CLIPModel has no bias of the logits, as the sigmoid loss trains: use --format native, "
            "open_clip or onnx"
        )
    for tower in TOWERS:
        _check_plain(model, tower)
    state = model.towers.state_dict()
    weights = {name: tensor.to(dtype) for name, tensor in to_transformers(_weights_of(state)).items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    for name, document in {"config.json": _config(model), "preprocessor_config.json": _preprocessor(model)}.items():
        write_atomically(folder / name, (json.dumps(document, indent=2) + "\n").encode())
    return _read_by_transformers(model, folder) if find_spec("transformers") else _read_by_us(model, folder)


def _weights_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the towers in open_clip's names, without constants."""
    return {name.removeprefix("text."): tensor for name, tensor in state.items() if not name.endswith("attn_mask")}


def _check_plain(model: Clip, tower: Tower) -> None:
    settings, is_image = tower_settings(model.config, tower), tower == "image"
    reasons = {
        "layers of different shapes": not tower_shape(model.config, tower).is_plain,
        "another pooling than CLIP's": settings.pool_type != ("tok" if is_image else "argmax"),
        "no norm before its blocks": is_image and settings.no_ln_pre,
        "no causal mask": not is_image and settings.no_causal_mask,
    }
    if odd := [reason for reason, holds in reasons.items() if holds]:
        raise ValueError(f"transformers' CLIPModel has no {tower} tower with {odd[0]}: use --format native or onnx")


def _config(model: Clip) -> dict[str, Any]:
    """``config.json``: a CLIPConfig."""
    activation = "quick_gelu" if model.config.get("quick_gelu") else "gelu"
    vision, text = tower_settings(model.config, "image"), tower_settings(model.config, "text")
    sections: dict[Tower, dict[str, Any]] = {
        "image": {"image_size": model.image_size, "patch_size": vision.patch_size},
        "text": {
            "vocab_size": text.vocab_size,
            "max_position_embeddings": text.context_length,
            "eos_token_id": END_OF_HIGHEST_ID,
        },
    }
    for tower, section in sections.items():
        shape = tower_shape(model.config, tower)
        section |= {
            "hidden_size": shape.width,
            "intermediate_size": shape.channels[0],
            "num_hidden_layers": shape.num_layers,
            "num_attention_heads": shape.heads[0],
            "hidden_act": activation,
            "layer_norm_eps": 1e-5,  # open_clip's, which is torch's default
            "projection_dim": model.width,
        }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": model.width,
        "vision_config": sections["image"] | {"model_type": "clip_vision_model"},
        "text_config": sections["text"] | {"model_type": "clip_text_model"},
    }


def _preprocessor(model: Clip) -> dict[str, Any]:
    square = {"height": model.image_size, "width": model.image_size}
    is_squashed = model.resizing.mode == "squash"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": square if is_squashed else {"shortest_edge": model.image_size},
        "resample": RESAMPLES[model.resizing.interpolation],
        "do_center_crop": not is_squashed,
        "crop_size": square,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": list(model.mean),
        "image_std": list(model.std),
    }


def _read_by_us(model: Clip, folder: Path) -> Embed:
    again = Clip(model.config, model.tokenizer, **model.preprocessing).eval()
    load_weights(again.towers, read_weights(folder / WEIGHTS), str(folder / WEIGHTS))

    def embed(image_BCHW: Tensor, text_BL: Tensor) -> tuple[Tensor, Tensor]:
        embeddings = again.embed(image_BCHW, text_BL)
        return embeddings.image_BD, embeddings.text_BD

    return embed


def _read_by_transformers(model: Clip, folder: Path) -> Embed:
    from transformers import CLIPModel

    theirs = CLIPModel.from_pretrained(folder).float().eval()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (model.mean, model.std))

    def embed(image_BCHW: Tensor, text_BL: Tensor) -> tuple[Tensor, Tensor]:
        outputs = theirs(input_ids=text_BL, pixel_values=(image_BCHW / 255 - mean) / std)
        return F.normalize(outputs.image_embeds, dim=1), F.normalize(outputs.text_embeds, dim=1)

    return embed
