"""Random patch masking of the student's images (CLIP-KD's masked feature distillation).

The class token always stays. A ViT drops the tokens of masked patches after adding positions (as MAE and FLIP do),
which saves compute. A convolutional tower needs the full grid: blocks of pixels are blanked, at the same cost.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from workbench.randomness import derive_seed

BLANKING_SIDE = 7  # blocks per side of an image for convolutional towers: the final grid of a ResNet at 224 pixels


def kept_patches(keys: Sequence[str], num_patches: int, ratio: float, seed: int, step: int) -> Tensor | None:
    """The patches that B pairs keep at a step: int64 [B, K], ascending, K = max(1, int(num_patches · (1 − ratio))).

    A pair's patches depend only on (seed, step, key), not on its batch. The patches kept at a higher ratio are a subset
    of those kept at a lower one. None if nothing is dropped.

    Raises:
        ValueError: the ratio is outside [0, 1).
    """
    if not 0 <= ratio < 1:
        raise ValueError(f"mask ratio {ratio}: choose at least 0 (drop nothing) and less than 1 (drop all)")
    num_kept = max(1, int(num_patches * (1 - ratio)))
    if num_kept == num_patches:
        return None
    generator = torch.Generator()
    rows = []
    for key in keys:  # one seed per pair: a pair is masked alike in every batch, on every rank and after a resume
        generator.manual_seed(derive_seed(seed, "kept patches", step, key))
        rows.append(torch.randperm(num_patches, generator=generator))
    return torch.stack(rows)[:, :num_kept].sort(dim=1).values


def drops_tokens(visual: nn.Module) -> bool:
    """Whether masking saves compute in this image tower."""
    return isinstance(visual, VisionTransformer)


def count_patches(visual: nn.Module) -> int:
    """Patches of a ViT; for other towers, the blocks of pixels that can be blanked."""
    if isinstance(visual, VisionTransformer):
        height, width = visual.grid_size
        return int(height * width)
    return BLANKING_SIDE**2


@contextmanager
def kept_only(visual: nn.Module, keep_BK: Tensor | None) -> Iterator[None]:
    """Context in which the image tower sees only the patches ``keep_BK`` of its B images; all for None."""
    if keep_BK is None:
        yield
        return

    def drop(_: nn.Module, __: tuple[Tensor], tokens_BTC: Tensor) -> Tensor:
        return keep_tokens(tokens_BTC, keep_BK)

    def blank(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return keep_blocks(inputs[0], keep_BK)

    if isinstance(visual, VisionTransformer):  # patch_dropout sits between the positions and the first norm
        hook = visual.patch_dropout.register_forward_hook(drop)
    else:
        hook = visual.register_forward_pre_hook(blank)
    try:
        yield
    finally:
        hook.remove()


def keep_tokens(tokens_BTC: Tensor, keep_BK: Tensor) -> Tensor:
    """The class token, which comes first, and the kept patch tokens in the given order: [B, 1 + K, C]."""
    assert len(tokens_BTC) == len(keep_BK)
    index_BT = F.pad(keep_BK.to(tokens_BTC.device, non_blocking=True) + 1, (1, 0))
    return torch.take_along_dim(tokens_BTC, index_BT[:, :, None], dim=1)


def keep_blocks(pixels_BCHW: Tensor, keep_BK: Tensor) -> Tensor:
    """Normalized images with 0, the mean color, outside the kept blocks of a 7 x 7 grid."""
    assert len(pixels_BCHW) == len(keep_BK)
    kept_BK = keep_BK.to(pixels_BCHW.device, non_blocking=True)
    grid = pixels_BCHW.new_zeros(len(kept_BK), BLANKING_SIDE**2).scatter_(1, kept_BK, 1)
    grid = grid.view(-1, 1, BLANKING_SIDE, BLANKING_SIDE)
    return pixels_BCHW * F.interpolate(grid, size=pixels_BCHW.shape[2:], mode="nearest")
