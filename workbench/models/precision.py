"""The precision of towers: float32, or half precision by autocast. Weights, normalization and losses stay float32."""

import torch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # of ``train.precision``; fp32 has no autocast


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """A context in which towers compute in this precision."""
    return torch.autocast(device.type, dtype=DTYPES.get(precision, torch.bfloat16), enabled=precision in DTYPES)
