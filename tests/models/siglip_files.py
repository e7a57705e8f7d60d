"""A small SigLIP, SigLIP 2 and MobileCLIP in the layout of their repositories, with random weights and vocabularies.

The models are open_clip's own; the tokenizers are trained on a few captions, in the two layouts that SigLIP (T5's
Unigram) and SigLIP 2 (Gemma's byte pairs) have.
"""

import copy
import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip import factory, pretrained
from safetensors.torch import save_file

CAPTIONS = [
    "a photo of a cat",
    "two red circles left of a blue square",
    "small green triangle",
    "one word, another word",
    "Łódź, 42 %!",
]
CONTEXT = 12
NAMES = {"siglip": "ViT-tiny-16-SigLIP", "siglip2": "ViT-tiny-16-SigLIP2", "mobileclip": "MobileCLIP2-tiny"}
SETTINGS: dict[str, dict[str, Any]] = {
    "siglip": {"tokenizer_class": "T5Tokenizer", "pad_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "siglip2": {
        "tokenizer_class": "GemmaTokenizer",
        "pad_token": {"__type": "AddedToken", "content": "<pad>", "special": True},
        "eos_token": "<eos>",
        "bos_token": "<bos>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
        "add_bos_token": False,
        "add_eos_token": True,
        "padding_side": "right",
    },
}


def write_tokenizer(folder: Path, kind: str) -> int:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``; returns the number of tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    corpus = [caption.lower() for caption in CAPTIONS] * 20
    if kind == "siglip":
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        special = ["<pad>", "</s>", "<unk>"]
        made.train_from_iterator(
            corpus,
            trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False),
        )
        made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    else:
        made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        made.normalizer = normalizers.Replace(" ", "▁")
        made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
        made.train_from_iterator(
            corpus, trainers.BpeTrainer(vocab_size=340, special_tokens=special, show_progress=False)
        )
        made.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(SETTINGS[kind]))
    return int(made.get_vocab_size())


def small_config(kind: str, vocab_size: int) -> dict[str, Any]:
    """open_clip's config of the real model, with fewer channels and layers, and timm's smallest ViT."""
    real = {"siglip": "ViT-B-16-SigLIP", "siglip2": "ViT-B-16-SigLIP2", "mobileclip": "MobileCLIP2-L-14"}[kind]
    config = copy.deepcopy(factory.get_model_config(real))
    config["embed_dim"] = 64
    config["vision_cfg"] |= {"timm_model_name": "test_vit", "image_size": 32}
    config["text_cfg"] |= {"width": 64, "heads": 2, "layers": 2, "vocab_size": vocab_size}
    if kind == "mobileclip":
        config["vision_cfg"]["timm_drop_path"] = 0.0
    else:
        config["text_cfg"]["context_length"] = CONTEXT
    return config


def write_repository(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """Write a repository's files, and register its architecture and tag; returns open_clip's model.

    The tag's preprocessing is the real one's, and its repository is ``timm/NAME``.
    """
    vocab_size = write_tokenizer(folder, kind) if kind != "mobileclip" else 49408
    name, config = NAMES[kind], small_config(kind, vocab_size)
    real = {"siglip": "ViT-B-16-SigLIP", "siglip2": "ViT-B-16-SigLIP2", "mobileclip": "MobileCLIP2-S0"}[kind]
    ((tag, cfg),) = (
        (tag, open_clip.get_pretrained_cfg(real, tag)) for tag in open_clip.list_pretrained_tags_by_model(real)
    )
    if kind != "mobileclip":
        config["text_cfg"]["hf_tokenizer_name"] = f"timm/{name}"
    monkeypatch.setitem(factory._MODEL_CONFIGS, name, config)
    monkeypatch.setitem(pretrained._PRETRAINED, name, {tag: cfg | {"hf_hub": f"timm/{name}/"}})
    torch.manual_seed(len(kind))
    with torch.random.fork_rng(devices=[]):
        model = open_clip.create_model(name).eval()
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    if model.logit_bias is not None:
        model.logit_scale.data.fill_(4.7)
        model.logit_bias.data.fill_(-12.9)
    folder.mkdir(parents=True, exist_ok=True)
    weights = model.state_dict()
    if kind != "mobileclip":  # as in the published files
        weights |= {one: weights[one].reshape(1) for one in ("logit_scale", "logit_bias")}
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / "open_clip_model.safetensors")
    keys = ("mean", "std", "interpolation", "resize_mode")
    document = {"model_cfg": config, "preprocess_cfg": {key: cfg[key] for key in keys}}
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    return model
