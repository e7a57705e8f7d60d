"""Weights of released students in open_clip's names: TinyCLIP's two encoders, transformers' CLIP, EMA and Lightning.

Names are translated on reading, so every other module sees open_clip's. Values are those of the file, but for
projections, which transformers stores transposed.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Tensors = dict[str, Tensor]

PREFIXES = ("module.", "_orig_mod.", "towers.", "model.", "clip_model.", "student.", "_forward_module.")
ENCODERS = re.compile(r"(_image_encoder|_text_encoder|_logit_scale|(image|text)_encoder_without_ddp)\.(module\.)?")

BLOCKS = (  # transformers' names inside a block, and open_clip's
    ("self_attn.out_proj.", "attn.out_proj."),
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
)
OUTSIDE = (  # and outside of blocks
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision_model.pre_layrnorm.", "visual.ln_pre."),  # transformers' own spelling
    ("vision_model.post_layernorm.", "visual.ln_post."),
    ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
    ("visual_projection.weight", "visual.proj"),
    ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.final_layer_norm.", "ln_final."),
    ("text_model.encoder.layers.", "transformer.resblocks."),
    ("text_projection.weight", "text_projection"),
    ("logit_scale", "logit_scale"),
)
TRANSPOSED = ("visual.proj", "text_projection")  # in open_clip's names
QKV = re.compile(r"(?P<block>.+\.resblocks\.\d+)\.self_attn\.[qkv]_proj\.(?P<kind>weight|bias)")


def in_open_clips_names(tensors: Mapping[str, Tensor]) -> Tensors:
    """The tensors in open_clip's names, without wrappers; names of no known layout stay as they are.

    Raises:
        ValueError: the file holds several models, or two encoders with different weights of one name.
    """
    renamed = _without_prefixes(_alone(dict(tensors)))
    if any(map(ENCODERS.match, renamed)):
        renamed = _without_encoders(renamed)
    if is_transformers(renamed):
        renamed = from_transformers(renamed)
    return renamed


def is_transformers(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of transformers' CLIPModel."""
    return any(name.startswith("vision_model.encoder.") for name in tensors)


def from_transformers(tensors: Mapping[str, Tensor]) -> Tensors:
    """transformers' CLIPModel in open_clip's names: query, key and value are joined, projections transposed."""
    # position_ids is a constant, 0 to the number of positions, that older files hold.
    renamed = {_translated(name, OUTSIDE): value for name, value in tensors.items() if "position_ids" not in name}
    joined: Tensors = {}
    for name, value in renamed.items():
        if match := QKV.fullmatch(name):
            block, kind = match["block"], match["kind"]
            parts = [renamed[f"{block}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            joined[f"{block}.attn.in_proj_{kind}"] = torch.cat(parts)
        else:
            joined[_in_block(name)] = value.T.contiguous() if name in TRANSPOSED else value
    return joined


def to_transformers(tensors: Mapping[str, Tensor]) -> Tensors:
    """The inverse of :func:`from_transformers`, for two towers of equal, standard blocks."""
    backward = [(new, old) for old, new in OUTSIDE]
    split: Tensors = {}
    for name, value in tensors.items():
        block, in_proj, kind = name.partition(".attn.in_proj_")
        if in_proj:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                split[_translated(f"{block}.self_attn.{part}_proj.{kind}", backward)] = rows.contiguous()
        else:
            outer, number, inner = _split_at_block(name)
            inner = _translated(inner, [(new, old) for old, new in BLOCKS])
            split[_translated(outer + number + inner, backward)] = value.T.contiguous() if name in TRANSPOSED else value
    return split


def renamed_swin(tensors: Mapping[str, Tensor]) -> Tensors:
    """A Swin tower of timm up to 0.6 in today's names: downsampling was numbered by the stage before it."""
    if not any(name.startswith("visual.trunk.layers.0.downsample.") for name in tensors):
        return dict(tensors)

    def later(match: re.Match[str]) -> str:
        return f"visual.trunk.layers.{int(match[1]) + 1}.downsample."

    # Both constants follow from the window size, and are computed today.
    constants = (".attn_mask", ".relative_position_index")
    return {
        re.sub(r"visual\.trunk\.layers\.(\d+)\.downsample\.", later, name): value
        for name, value in tensors.items()
        if not name.endswith(constants)
    }


def _alone(tensors: Tensors) -> Tensors:
    """The student's tensors, where a checkpoint holds other modules too, such as its teacher or the criterion."""
    models = {name.removesuffix("logit_scale") for name in tensors if name.endswith("logit_scale")}
    students = [model for model in models if "teacher" not in model and not ENCODERS.search(model)]
    if len(students) != 1:
        return tensors
    return {name: value for name, value in tensors.items() if name.startswith(students[0])}


def _without_prefixes(tensors: Tensors) -> Tensors:
    # Prefixes nest: DDP around a compiled model gives module._orig_mod.
    while prefix := next((p for p in PREFIXES if tensors and all(n.startswith(p) for n in tensors)), None):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _without_encoders(tensors: Tensors) -> Tensors:
    """TinyCLIP wraps each encoder, with DDP and without; both names of one encoder may be in a file."""
    merged: Tensors = {}
    for name, value in tensors.items():
        inner = ENCODERS.sub("", name, count=1) if ENCODERS.match(name) else name
        if inner in merged and not torch.equal(merged[inner], value):
            raise ValueError(f"two encoders with different {inner}: save the one to use")
        merged[inner] = value
    return merged


def _translated(name: str, names: Sequence[tuple[str, str]]) -> str:
    return next((new + name.removeprefix(old) for old, new in names if name.startswith(old)), name)


def _split_at_block(name: str) -> tuple[str, str, str]:
    """``visual.transformer.resblocks.``, ``3.`` and the rest; the first two are empty outside of blocks."""
    match = re.match(r"(.*resblocks\.)(\d+\.)(.*)", name)
    return (match[1], match[2], match[3]) if match else ("", "", name)


def _in_block(name: str) -> str:
    outer, number, inner = _split_at_block(name)
    return outer + number + (_translated(inner, BLOCKS) if outer else inner)
