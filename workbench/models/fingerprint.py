"""One name for a set of weights."""

import hashlib

import torch
from torch import nn


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
