"""What a tower costs: the multiply-accumulates of one picture or one text, by arithmetic."""

from typing import Any

from workbench.config.shape import Tower, TowerShape
from workbench.models.shapes import Config, tower_settings, tower_shape


def multiply_accumulates(config: Config, tower: Tower) -> int:
    """Of the matrix products and convolutions in one forward of one tower; norms and activations are left out.

    The attention of a text is counted over all pairs of its tokens, as it is computed.

    Raises:
        ValueError: the tower is neither open_clip's transformer nor its ResNet.
    """
    settings = tower_settings(config, tower)
    if tower == "image" and isinstance(settings.layers, list | tuple):
        return _resnet(settings, config["embed_dim"])
    shape = tower_shape(config, tower)
    projection: int = shape.width * config["embed_dim"]
    if tower == "text":
        return transformer(shape, settings.context_length) + projection
    size = settings.image_size if isinstance(settings.image_size, int) else settings.image_size[0]
    num_patches: int = (size // settings.patch_size) ** 2
    patches: int = num_patches * 3 * settings.patch_size**2 * shape.width
    return patches + transformer(shape, num_patches + 1) + projection


def transformer(shape: TowerShape, num_tokens: int) -> int:
    """Of the blocks alone, for one sequence."""
    attended = 2 * num_tokens**2 * shape.head_width * sum(shape.heads)
    return num_tokens * shape.block_weights + attended


def _resnet(settings: Any, embed_dim: int) -> int:
    width, side = settings.width, settings.image_size // 2
    total = side**2 * 9 * (3 * (width // 2) + (width // 2) ** 2 + (width // 2) * width)
    side, before = side // 2, width
    for stage, num_blocks in enumerate(settings.layers):
        inner = width * 2**stage
        for block in range(num_blocks):
            total += side**2 * (before * inner + 9 * inner**2)
            side //= 2 if stage and not block else 1
            total += side**2 * 4 * inner * (inner if block else inner + before)
            before = 4 * inner
    num_tokens = side**2 + 1
    return int(total + num_tokens * (3 * before**2 + 2 * num_tokens * before + before * embed_dim))
