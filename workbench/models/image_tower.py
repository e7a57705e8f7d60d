"""Patch masking and block features of image towers.

Masking (CLIP-KD's masked feature distillation): the class token always stays. A ViT drops the tokens of masked patches
after adding positions (as MAE and FLIP do), which saves compute. A convolutional tower needs the full grid: blocks of
pixels are blanked, at the same cost.

Features (for intermediate-feature distillation) are those of the residual blocks of a ViT, or of the four stages
(layer1 to layer4) of open_clip's ModifiedResNet. Forms:
    map     [B, C, h, w]   over the image
    tokens  [B, T, C]      the map flattened row by row, without the class token
    pooled  [B, C]         the class token if the tower pools by it, otherwise the mean of patch tokens or map
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from workbench.embeddings import FeatureKey, onto
from workbench.errors import unknown
from workbench.randomness import derive_seed

FORMS = ("map", "tokens", "pooled")
BLANKING_SIDE = 7  # blocks per side of an image for convolutional towers: the final grid of a ResNet at 224 pixels


def kept_patches(keys: Sequence[str], num_patches: int, ratio: float, seed: int, step: int) -> Tensor | None:
    """The patches that B pairs keep at a step: int64 [B, K], ascending, K = max(1, int(num_patches · (1 − ratio))).

    A pair's patches depend only on (seed, step, key), not on its batch. The patches kept at a higher ratio are a subset
    of those kept at a lower one. None if nothing is dropped.
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
    # The first K of a permutation: a prefix, so that a higher ratio keeps a subset.
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
    # Patch p is token p + 1; the padding in front is token 0, the class token.
    index_BT = F.pad(onto(tokens_BTC.device, keep_BK) + 1, (1, 0))
    return torch.take_along_dim(tokens_BTC, index_BT[:, :, None], dim=1)


def keep_blocks(pixels_BCHW: Tensor, keep_BK: Tensor) -> Tensor:
    """Normalized images with 0, the mean color, outside the kept blocks of a 7 x 7 grid."""
    assert len(pixels_BCHW) == len(keep_BK)
    kept_BK = onto(pixels_BCHW.device, keep_BK)
    grid = pixels_BCHW.new_zeros(len(kept_BK), BLANKING_SIDE**2).scatter_(1, kept_BK, 1)
    grid = grid.view(-1, 1, BLANKING_SIDE, BLANKING_SIDE)
    return pixels_BCHW * F.interpolate(grid, size=pixels_BCHW.shape[2:], mode="nearest")


def tower_blocks(visual: nn.Module) -> list[nn.Module]:
    """Blocks of an image tower, first to last."""
    if isinstance(visual, VisionTransformer):
        return list(visual.transformer.resblocks)
    if isinstance(visual, ModifiedResNet):
        return [visual.layer1, visual.layer2, visual.layer3, visual.layer4]
    raise ValueError(
        f"no inner features of a {type(visual).__name__}: choose a model whose image tower is open_clip's "
        "VisionTransformer (its residual blocks) or ModifiedResNet (layer1 to layer4)"
    )


def block_widths(visual: nn.Module) -> tuple[int, ...]:
    """Channels C of every block; raises as :func:`tower_blocks`."""
    blocks = tower_blocks(visual)
    if isinstance(visual, VisionTransformer):
        return (visual.transformer.width,) * len(blocks)
    return tuple(stage[-1].conv3.out_channels for stage in blocks)  # type: ignore[index]  # a stage is a Sequential


def block_number(visual: nn.Module, block: int) -> int:
    """``block`` as a number from 0; negative numbers count from the end."""
    num_blocks = len(tower_blocks(visual))
    if not -num_blocks <= block < num_blocks:
        raise ValueError(
            f"no block {block} in an image tower of {num_blocks}: choose 0 to {num_blocks - 1}, "
            f"or -1 to -{num_blocks} from the end"
        )
    return block % num_blocks


@contextmanager
def collected(visual: nn.Module, keys: Sequence[FeatureKey]) -> Iterator[dict[FeatureKey, Tensor]]:
    """Context in which every forward of the image tower stores its features in the dictionary: float32, with graph."""
    features: dict[FeatureKey, Tensor] = {}
    with ExitStack() as hooks:
        for key in keys:
            if key.form not in FORMS:
                raise unknown("form of features", key.form, FORMS)

            def collect(_: nn.Module, __: tuple[Tensor], output: Tensor, key: FeatureKey = key) -> None:
                features[key] = _in_form(visual, output, key.form)

            block = tower_blocks(visual)[block_number(visual, key.block)]
            hooks.callback(block.register_forward_hook(collect).remove)
        yield features


@contextmanager
def at_resolution(visual: nn.Module, height: int, width: int) -> Iterator[None]:
    """Context in which the image tower takes images of H x W pixels, with its position embeddings interpolated.

    Bicubic, as open_clip resizes those of a checkpoint; the class token keeps its own. A convolutional tower takes any
    size as it is.

    Raises:
        ValueError: H or W is not a multiple of a ViT's patch size.
    """
    if not isinstance(visual, VisionTransformer):
        yield
        return
    patch_height, patch_width = visual.patch_size
    if height % patch_height or width % patch_width:
        raise ValueError(
            f"images of {height} x {width} for a ViT with patches of {patch_height} x {patch_width}: "
            "resize or pad them to a multiple of its patches"
        )
    own, own_grid = visual._parameters["positional_embedding"], visual.grid_size
    assert own is not None
    grid = height // patch_height, width // patch_width
    if grid == tuple(own_grid):
        yield
        return
    map_1CHW = own[1:].T.reshape(1, -1, *own_grid).float()
    resized_PC = F.interpolate(map_1CHW, grid, mode="bicubic", antialias=True)[0].flatten(1).T
    try:
        # Replaced where the parameter is kept, so that its name and place among the weights stay.
        visual._parameters["positional_embedding"] = torch.cat([own[:1], resized_PC.to(own.dtype)])
        visual.grid_size = grid
        yield
    finally:
        visual._parameters["positional_embedding"], visual.grid_size = own, own_grid


def run_blocks(visual: nn.Module, pixels_BCHW: Tensor, num_blocks: int) -> None:
    """Run the first blocks of the tower, without the final pooling, which fixes the resolution."""
    if isinstance(visual, VisionTransformer):
        visual.forward_intermediates(pixels_BCHW, indices=[num_blocks - 1], stop_early=True, intermediates_only=True)
    else:
        assert isinstance(visual, ModifiedResNet)
        output = visual.stem(pixels_BCHW)
        for stage in tower_blocks(visual)[:num_blocks]:
            output = stage(output)


def pooled_cells(visual: nn.Module) -> int:
    """Side of the map that the tower's pooling takes: the attention pooling of a ResNet has positions; 0 for any."""
    if isinstance(visual, ModifiedResNet):
        side: float = (len(visual.attnpool.positional_embedding) - 1) ** 0.5
        return round(side)
    return 0


def pool_map(visual: nn.Module, map_BChw: Tensor) -> Tensor:
    """Embeddings [B, D] of maps of the last block.

    A ViT that pools its class token gets the mean of the map in its place: a part of an image has no class token.
    """
    if isinstance(visual, ModifiedResNet):
        embedded: Tensor = visual.attnpool(map_BChw)
        return embedded
    assert isinstance(visual, VisionTransformer)
    tokens_BTC = map_BChw.flatten(2).mT
    pooled, _ = visual._pool(torch.cat([tokens_BTC.mean(dim=1, keepdim=True), tokens_BTC], dim=1))
    projected: Tensor = pooled if visual.proj is None else pooled @ visual.proj
    return projected


def _in_form(visual: nn.Module, output: Tensor, form: str) -> Tensor:
    if isinstance(visual, VisionTransformer):
        # open_clip's blocks may run sequence-first.
        tokens_BTC = (output if visual.transformer.batch_first else output.transpose(0, 1)).float()
        return _tokens_in_form(visual, tokens_BTC, form)
    map_BCHW = output.float()
    if form == "map":
        return map_BCHW
    tokens_BTC = map_BCHW.flatten(2).mT
    return tokens_BTC if form == "tokens" else tokens_BTC.mean(dim=1)


def _tokens_in_form(visual: VisionTransformer, tokens_BTC: Tensor, form: str) -> Tensor:
    class_BC, patches_BTC = tokens_BTC[:, 0], tokens_BTC[:, 1:]
    if form == "pooled":
        pools_by_class = visual.attn_pool is None and visual.pool_type == "tok"
        return class_BC if pools_by_class else patches_BTC.mean(dim=1)
    height, width = visual.grid_size
    num_kept = patches_BTC.shape[1]
    if num_kept != height * width:
        raise ValueError(
            f"only {num_kept} of {height * width} patches are kept, and they form no grid: "
            "request their features in the form 'pooled'"
        )
    return patches_BTC if form == "tokens" else patches_BTC.mT.reshape(len(patches_BTC), -1, height, width)
