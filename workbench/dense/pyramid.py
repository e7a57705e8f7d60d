"""A feature pyramid on a frozen image tower, with levels at strides 4, 8, 16 and 32.

A ResNet has these strides itself (C2 to C5, the outputs of its four stages), and torchvision's feature pyramid network
joins them. A ViT has one map, of its last block: ViTDet's simple pyramid scales it to each level by transposed
convolutions or pooling.

Shape letters: B images · C channels of the tower, F of the pyramid · h, w cells of a level.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork, roi_align
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from workbench.models.clip import Clip
from workbench.models.precision import autocast

STRIDES = (4, 8, 16, 32)
REGION_CELLS = 4  # side of a region's map, for towers that pool any number of cells
SIZE_DIVISOR = 32  # of images, so that every level has whole cells


class FrozenTower:
    """The image tower of a student: no gradients, evaluation mode, its own normalization.

    No ``nn.Module``, so that a detector neither trains, saves nor switches its weights.
    """

    def __init__(self, clip: Clip, precision: str = "fp32") -> None:
        self.clip = clip
        self._precision = precision
        self.is_vit = clip.drops_tokens
        self.widths = clip.block_widths if not self.is_vit else clip.block_widths[-1:]
        patch = clip.towers.visual.patch_size[0] if self.is_vit else 0
        self.stride = 2 ** round(math.log2(patch)) if self.is_vit else 0
        self._shrink = patch / self.stride if self.is_vit else 1.0

    @torch.no_grad()
    def maps(self, image_BCHW: Tensor) -> list[Tensor]:
        """float32 maps [B, C, h, w] of images that are normalized as the tower's own and padded to multiples of 32.

        Of a ViT one, at ``stride``, a power of two: a tower with patches of 14 sees the image at 14/16 of its size.
        """
        clip, was_training = self.clip, self.clip.training
        std_1C11, mean_1C11 = (image_BCHW.new_tensor(part).view(1, 3, 1, 1) for part in (clip.std, clip.mean))
        pixels_BCHW = 255 * (image_BCHW * std_1C11 + mean_1C11)
        if self._shrink != 1:
            size = [round(side * self._shrink) for side in image_BCHW.shape[2:]]
            pixels_BCHW = F.interpolate(pixels_BCHW, size, mode="bilinear", antialias=True)
        clip.eval()
        with autocast(image_BCHW.device, self._precision):
            found = clip.features(pixels_BCHW, [-1] if self.is_vit else [0, 1, 2, 3], "map")
        clip.train(was_training)
        self._last_BChw = found[-1].float()
        return [one.float() for one in found]

    @torch.no_grad()
    def embed_regions(self, regions: Sequence[Tensor]) -> Tensor:
        """Raw embeddings [R, D] of regions of the images that :meth:`maps` read last, by the tower's own pooling.

        Args:
            regions: of each image, boxes [n, 4] in pixels.
        """
        cells = self.clip.pooled_cells or REGION_CELLS
        stride = self.stride or STRIDES[-1]
        pooled_RCcc = roi_align(self._last_BChw, list(regions), cells, 1 / stride, sampling_ratio=2, aligned=True)
        return self.clip.pool_map(pooled_RCcc)


class Pyramid(nn.Module):
    """Levels "0" to "3" at strides 4 to 32, and "pool" at 64, with F channels each, of normalized images.

    Args:
        tower: of which only the maps are used.
        channels: F.
    """

    def __init__(self, tower: FrozenTower, channels: int) -> None:
        super().__init__()
        self._tower = (tower,)  # in a tuple, in which nn.Module finds no weights
        self.out_channels = channels  # torchvision reads it
        self.necks = nn.ModuleList(
            scaled_neck(tower.widths[0], channels, tower.stride, stride) for stride in STRIDES if tower.is_vit
        )
        self.network = None if tower.is_vit else FeaturePyramidNetwork(list(tower.widths), channels)
        self.last = LastLevelMaxPool()

    def forward(self, image_BCHW: Tensor) -> "OrderedDict[str, Tensor]":
        maps = self._tower[0].maps(image_BCHW)
        if self.network is None:
            levels = [neck(maps[0]) for neck in self.necks]
        else:
            named = OrderedDict((str(number), one) for number, one in enumerate(maps))
            levels = list(self.network(named).values())
        levels, names = self.last(levels, levels, [str(number) for number in range(len(levels))])
        return OrderedDict(zip(names, levels, strict=True))


def scaled_neck(width: int, channels: int, stride: int, target: int) -> nn.Sequential:
    """From a map of C channels at a stride to F channels at another: scaling, a 1 x 1 and a 3 x 3 convolution."""
    layers: list[nn.Module] = [ChannelNorm(width)]  # the last block's output is not normalized yet
    while stride > target:
        layers += [nn.ConvTranspose2d(width, width // 2, 2, stride=2), ChannelNorm(width // 2), nn.GELU()]
        width, stride = width // 2, stride // 2
    if stride < target:
        layers.append(nn.MaxPool2d(target // stride))
    layers += [nn.Conv2d(width, channels, 1, bias=False), ChannelNorm(channels)]
    layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), ChannelNorm(channels)]
    return nn.Sequential(*layers)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over dimension 1 of [B, C, h, w]."""

    def forward(self, map_BChw: Tensor) -> Tensor:
        return super().forward(map_BChw.movedim(1, -1)).movedim(-1, 1)
