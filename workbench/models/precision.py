"""The precision of towers: float32, or half precision by autocast. Normalization and losses stay float32."""

from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import CustomResidualAttentionBlock, ResidualAttentionBlock, VisionTransformer
from torch import nn

from workbench.models.towers import Attention

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # of ``train.precision``; fp32 has no autocast


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """A context in which towers compute in this precision."""
    return torch.autocast(device.type, dtype=DTYPES.get(precision, torch.bfloat16), enabled=precision in DTYPES)


@torch.no_grad()
def hold_weights(towers: Any, precision: str) -> None:
    """Hold the weights that autocast rounds before every use in the dtype it rounds them to, for frozen towers.

    Embeddings under :func:`autocast` stay the same, bit for bit. Half the memory, and an operator less for each matrix:
    autocast keeps rounded copies of trained weights only, within one forward. Norms, token and position tables stay
    float32, and so do towers of timm and open_clip's own blocks, which compute in the dtype of their weights.
    """
    if precision not in DTYPES:
        return
    dtype = DTYPES[precision]
    kept: set[int] = set()
    for module in towers.modules():
        is_foreign = isinstance(module, ResidualAttentionBlock | CustomResidualAttentionBlock)
        if is_foreign or (module is towers.visual and not isinstance(module, VisionTransformer | ModifiedResNet)):
            kept |= {id(inner) for inner in module.modules()}
    for module in towers.modules():
        if id(module) not in kept and isinstance(module, nn.Linear | nn.Conv2d | Attention):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
