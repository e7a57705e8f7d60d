"""Features of an image tower's blocks, for intermediate-feature distillation.

Blocks are the residual blocks of a ViT, or the four stages (layer1 to layer4) of open_clip's ModifiedResNet. Forms:
    map     [B, C, h, w]   over the image
    tokens  [B, T, C]      the map flattened row by row, without the class token
    pooled  [B, C]         the class token if the tower pools by it, otherwise the mean of patch tokens or map
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from workbench.embeddings import FeatureKey
from workbench.errors import unknown

FORMS = ("map", "tokens", "pooled")


def tower_blocks(visual: nn.Module) -> list[nn.Module]:
    """Blocks of an image tower, first to last.

    Raises:
        ValueError: a tower of another kind.
    """
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
    """``block`` as a number from 0; negative numbers count from the end.

    Raises:
        ValueError: an unknown block, or a tower of another kind.
    """
    num_blocks = len(tower_blocks(visual))
    if not -num_blocks <= block < num_blocks:
        raise ValueError(
            f"no block {block} in an image tower of {num_blocks}: choose 0 to {num_blocks - 1}, "
            f"or -1 to -{num_blocks} from the end"
        )
    return block % num_blocks


@contextmanager
def collected(visual: nn.Module, keys: Sequence[FeatureKey]) -> Iterator[dict[FeatureKey, Tensor]]:
    """Context in which every forward of the image tower stores its features in the dictionary: float32, with graph.

    Raises:
        ValueError: an unknown block or form, or a form that this forward does not have.
    """
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


def run_blocks(visual: nn.Module, pixels_BCHW: Tensor, num_blocks: int) -> None:
    """Run the first blocks of the tower, without the final pooling, which fixes the resolution."""
    if isinstance(visual, VisionTransformer):
        visual.forward_intermediates(pixels_BCHW, indices=[num_blocks - 1], stop_early=True, intermediates_only=True)
    else:
        assert isinstance(visual, ModifiedResNet)
        output = visual.stem(pixels_BCHW)
        for stage in tower_blocks(visual)[:num_blocks]:
            output = stage(output)


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
