"""Weights files in the layouts of released students, made from an open_clip model's weights.

Names are written out here, not taken from the code that reads them.
"""

from collections.abc import Mapping

from torch import Tensor

Tensors = dict[str, Tensor]


def tinyclip(tensors: Mapping[str, Tensor], *, ddp: bool = True, outer: str = "") -> Tensors:
    """TinyCLIP's three wrapped modules, with DistributedDataParallel's ``module.`` or without."""
    made: Tensors = {}
    for name, value in tensors.items():
        if name == "logit_scale":
            wrapper = "_logit_scale." if ddp else ""
        elif ddp:
            wrapper = "_image_encoder." if name.startswith("visual.") else "_text_encoder."
        else:
            wrapper = "image_encoder_without_ddp." if name.startswith("visual.") else "text_encoder_without_ddp."
        made[f"{outer}{wrapper}{'module.' if ddp else ''}{name}"] = value
    return made


def transformers(tensors: Mapping[str, Tensor]) -> Tensors:
    """transformers' CLIPModel, with the position ids that older versions saved."""
    made: Tensors = {}
    outside = {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
        "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
        "visual.ln_post.weight": "vision_model.post_layernorm.weight",
        "visual.ln_post.bias": "vision_model.post_layernorm.bias",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final.weight": "text_model.final_layer_norm.weight",
        "ln_final.bias": "text_model.final_layer_norm.bias",
        "logit_scale": "logit_scale",
    }
    inside = {
        "attn.out_proj.weight": "self_attn.out_proj.weight",
        "attn.out_proj.bias": "self_attn.out_proj.bias",
        "ln_1.weight": "layer_norm1.weight",
        "ln_1.bias": "layer_norm1.bias",
        "ln_2.weight": "layer_norm2.weight",
        "ln_2.bias": "layer_norm2.bias",
        "mlp.c_fc.weight": "mlp.fc1.weight",
        "mlp.c_fc.bias": "mlp.fc1.bias",
        "mlp.c_proj.weight": "mlp.fc2.weight",
        "mlp.c_proj.bias": "mlp.fc2.bias",
    }
    for name, value in tensors.items():
        if name in outside:
            made[outside[name]] = value
        elif name == "visual.proj":
            made["visual_projection.weight"] = value.T.contiguous()
        elif name == "text_projection":
            made["text_projection.weight"] = value.T.contiguous()
        else:
            tower = "vision_model" if name.startswith("visual.") else "text_model"
            number, _, rest = name.split("resblocks.")[1].partition(".")
            block = f"{tower}.encoder.layers.{number}."
            if rest.startswith("attn.in_proj_"):
                width = len(value) // 3
                for index, part in enumerate("qkv"):
                    rows = value[index * width : (index + 1) * width].clone()
                    made[f"{block}self_attn.{part}_proj.{rest.removeprefix('attn.in_proj_')}"] = rows
            else:
                made[block + inside[rest]] = value
    return made


def clip_kd(tensors: Mapping[str, Tensor]) -> dict[str, object]:
    """CLIP-KD's checkpoints: DDP's names, with the optimizer and the gradient scaler."""
    return {
        "epoch": 32,
        "name": "run",
        "state_dict": {f"module.{name}": value for name, value in tensors.items()},
        "optimizer": {"state": {}, "param_groups": []},
        "scaler": {"scale": 65536.0},
    }


def openai(tensors: Mapping[str, Tensor]) -> Tensors:
    """OpenAI's files in float16, with their three integers."""
    import torch

    half = {name: value.half() for name, value in tensors.items()}
    constants = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    return half | {name: torch.tensor(value) for name, value in constants.items()}


def old_swin(tensors: Mapping[str, Tensor]) -> Tensors:
    """A timm Swin tower as timm 0.6 named it."""
    import torch

    made: Tensors = {}
    for name, value in tensors.items():
        parts = name.split(".")
        if name.startswith("visual.trunk.layers.") and "downsample" in parts:
            parts[3] = str(int(parts[3]) - 1)
        made[".".join(parts)] = value
        if name.endswith("relative_position_bias_table"):
            block = name.removesuffix("relative_position_bias_table")
            made[f"{block}relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
            made[f"{block.removesuffix('attn.')}attn_mask"] = torch.zeros(64, 49, 49)
    return made
