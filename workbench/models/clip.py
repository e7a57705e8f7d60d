"""A CLIP model: open_clip's two towers with the tokenizer and normalization they were trained with."""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, Self

import open_clip
import torch
from torch import Tensor, nn

from workbench.config.inheritance import Tower
from workbench.embeddings import CLIPS_RESIZING, MAX_LOG_SCALE, Embeddings, FeatureKey, InputSpec, Resizing
from workbench.models.image_tower import (
    at_resolution,
    block_number,
    block_widths,
    collected,
    count_patches,
    drops_tokens,
    kept_only,
    pool_map,
    pooled_cells,
    run_blocks,
)
from workbench.models.pooling import image_token, pooled_token_only, text_token
from workbench.models.tokenizers import Tokenizer
from workbench.models.towers import build_towers, split_name
from workbench.randomness import derive_seed

RESIZINGS = (("shortest", "squash"), ("bicubic", "bilinear"))  # modes and interpolations


class Clip(nn.Module):
    """Two open_clip towers with their tokenizer and image normalization.

    Args:
        config: an open_clip model config: embed_dim, vision_cfg, text_cfg and so on.
        tokenizer: must match the config's vocabulary and context length.
        mean, std: of the three color channels, in [0, 1].
        resizing: how evaluation images become squares.
        seed: of the initialization; torch's global random state is not changed.

    Raises:
        ValueError: open_clip cannot build this config, images are not square, the tokenizer does not match, or mean or
            std is not three finite numbers (positive, for std).
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        config: dict[str, Any],
        tokenizer: Tokenizer,
        *,
        mean: tuple[float, ...] = open_clip.OPENAI_DATASET_MEAN,
        std: tuple[float, ...] = open_clip.OPENAI_DATASET_STD,
        resizing: Resizing = CLIPS_RESIZING,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.mean, self.std = _channels(mean, "mean"), _channels(std, "std")
        self.resizing = _checked(resizing)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "initial weights"))
            self.towers = build_towers(config)
        self.frozen: tuple[Tower, ...] = ()  # set by freeze()
        size = self.towers.visual.image_size
        height, width = (size, size) if isinstance(size, int) else size
        if height != width:
            raise ValueError(f"image_size {height} x {width}: the workbench supports square images only")
        self.image_size = height
        _check_fit(tokenizer, config["text_cfg"])
        # Times 255: images stay uint8 until they are on the device, which quarters the transfer.
        self.register_buffer("_mean", torch.tensor(self.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).view(1, 3, 1, 1) * 255, persistent=False)

    @property
    def width(self) -> int:
        """The embedding width D."""
        return int(self.config["embed_dim"])

    @property
    def input_spec(self) -> InputSpec:
        """The model's inputs: image size, tokenizer and resizing."""
        identity = hashlib.sha256(json.dumps(self.tokenizer.spec, sort_keys=True).encode()).hexdigest()
        return InputSpec(self.image_size, self.tokenizer, identity, self.resizing)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Mean, std and resizing, as arguments of another model with the same inputs."""
        return {"mean": self.mean, "std": self.std, "resizing": self.resizing}

    @property
    def scale(self) -> Tensor:
        """The learned scale 1/τ, positive, 0-d."""
        scale: Tensor = self.towers.logit_scale.exp().reshape(())
        return scale

    @property
    def bias(self) -> Tensor | None:
        """The learned bias of the logits, 0-d, of a model trained with the sigmoid loss; None for others."""
        bias: Tensor | None = getattr(self.towers, "logit_bias", None)
        return None if bias is None else bias.reshape(())

    @property
    def logit_parameters(self) -> list[nn.Parameter]:
        """The parameters of the logits, which belong to no tower: log scale, and bias if there is one."""
        return [value for name, value in self.towers.named_parameters() if split_name(name)[0] is None]

    def add_bias_(self, scale: float, bias: float) -> None:
        """Give the logits a learned bias, and set the scale: initial values of the sigmoid loss.

        The model config records them, so that open_clip builds this model, too.
        """
        self.config = self.config | {"init_logit_scale": math.log(scale), "init_logit_bias": bias}
        with torch.no_grad():
            self.towers.logit_scale.fill_(math.log(scale))
        self.towers.logit_bias = nn.Parameter(torch.full_like(self.towers.logit_scale.detach(), bias))

    @property
    def num_patches(self) -> int:
        """Patches of an image that can be masked: those of a ViT, or 7 x 7 blocks of pixels for other towers."""
        return count_patches(self.towers.visual)

    @property
    def drops_tokens(self) -> bool:
        """Whether masking saves compute: True for a ViT; other towers see blank pixels instead."""
        return drops_tokens(self.towers.visual)

    @property
    def block_widths(self) -> tuple[int, ...]:
        """Channels C of every image-tower block that has features; ValueError for towers of other libraries."""
        return block_widths(self.towers.visual)

    def encode_image(self, image_BCHW: Tensor, keep_BK: Tensor | None = None) -> Tensor:
        """uint8 images [B, 3, H, W] -> raw float32 embeddings [B, D], not normalized.

        Args:
            image_BCHW: the images.
            keep_BK: int64, the patches that each image keeps, out of :attr:`num_patches`; all by default. A ViT drops
                the other tokens and keeps the class token. For other towers, the other pixels get the mean color.
        """
        if keep_BK is not None and (own := self.config["vision_cfg"].get("patch_dropout")):
            raise ValueError(
                f"this model's vision_cfg has patch_dropout {own}, which would drop patches of a masked image "
                "a second time, independent of the run's seed: set it to 0"
            )
        visual = self.towers.visual
        with kept_only(visual, keep_BK), pooled_token_only(*image_token(visual, image_BCHW)):
            raw: Tensor = self.towers.encode_image(self._normalized(image_BCHW))
        return raw.float()

    def encode_image_with_features(
        self, image_BCHW: Tensor, keys: Sequence[FeatureKey], keep_BK: Tensor | None = None
    ) -> tuple[Tensor, dict[FeatureKey, Tensor]]:
        """Raw embeddings [B, D], and features of the image tower (:mod:`workbench.models.image_tower`), of one forward.

        Args:
            image_BCHW: uint8 images.
            keys: which blocks, in which form.
            keep_BK: as in :meth:`encode_image`; a ViT's kept tokens have features in the form "pooled" only.
        """
        with collected(self.towers.visual, keys) as features:
            raw_BD = self.encode_image(image_BCHW, keep_BK)
        return raw_BD, features

    def features(self, image_BCHW: Tensor, blocks: Sequence[int], form: str) -> tuple[Tensor, ...]:
        """Features of some blocks, as in :meth:`encode_image_with_features`, without running later blocks.

        Images may have any size: from 32 pixels for a convolutional tower, a multiple of its patches for a ViT, whose
        position embeddings are interpolated.
        """
        visual = self.towers.visual
        keys = [FeatureKey(block, form) for block in blocks]
        with collected(visual, keys) as features, at_resolution(visual, *image_BCHW.shape[2:]):
            # A forward to the deepest block only: pooling behind it may not support this resolution.
            deepest = max((block_number(visual, block) for block in blocks), default=-1)
            run_blocks(visual, self._normalized(image_BCHW), deepest + 1)
        return tuple(features[key] for key in keys)

    @property
    def pooled_cells(self) -> int:
        """Side of the last map that the image tower's pooling takes; 0 if it takes any."""
        return pooled_cells(self.towers.visual)

    def pool_map(self, map_BChw: Tensor) -> Tensor:
        """Raw embeddings [B, D] of maps of the last block, as of whole images, such as those of regions."""
        return pool_map(self.towers.visual, map_BChw).float()

    def encode_text(self, text_BL: Tensor) -> Tensor:
        """Token ids [B, L] -> raw float32 embeddings [B, D], not normalized."""
        with pooled_token_only(*text_token(self.towers, text_BL)):
            raw: Tensor = self.towers.encode_text(text_BL)
        return raw.float()

    def embed(self, image_BCHW: Tensor, text_BL: Tensor) -> Embeddings:
        """Unit-length embeddings of B pairs."""
        image, text = self.encode_image(image_BCHW), self.encode_text(text_BL)
        return Embeddings.from_raw(image, text, self.scale, self.bias)

    def _normalized(self, image_BCHW: Tensor) -> Tensor:
        return (image_BCHW.float() - self._mean) / self._std

    def freeze(self, tower: Tower) -> None:
        """Exclude a tower from training: no gradients, and always in evaluation mode."""
        for name, parameter in self.towers.named_parameters():
            if split_name(name)[0] == tower:
                parameter.requires_grad_(False)
        self.frozen += (tower,)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen towers stay in evaluation mode, so that batch norm statistics do not change."""
        super().train(mode)
        for name, child in self.towers.named_children():
            if split_name(f"{name}.")[0] in self.frozen:
                child.eval()
        return self

    @torch.no_grad()
    def clamp_scale_(self) -> None:
        """Clamp the scale to CLIP's range [1, 100], after an optimizer step."""
        self.towers.logit_scale.clamp_(0, MAX_LOG_SCALE)


def _channels(values: Sequence[float], name: str) -> tuple[float, ...]:
    """Three finite numbers, positive for std: a std of 0 would make every embedding NaN without an error."""
    numbers = isinstance(values, list | tuple) and all(type(value) in (int, float) for value in values)
    if not numbers or len(values) != 3 or not all(map(math.isfinite, values)) or (name == "std" and min(values) <= 0):
        raise ValueError(
            f"{name} of the image normalization must be three {'positive ' * (name == 'std')}numbers, one a color "
            f"channel (got {values!r}): check preprocess_cfg.{name}"
        )
    return tuple(values)


def _checked(resizing: Resizing) -> Resizing:
    for name, value, known in zip(("resize_mode", "interpolation"), resizing, RESIZINGS, strict=True):
        if value not in known:
            raise ValueError(f"preprocess_cfg.{name} is {value!r}, and the workbench knows {' and '.join(known)}")
    return resizing


def _check_fit(tokenizer: Tokenizer, text: dict[str, Any]) -> None:
    table = (text.get("vocab_size", 49408), text.get("context_length", 77))
    if (tokenizer.vocab_size, tokenizer.context_length) != table:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} ids in rows of {tokenizer.context_length}, "
            f"but the model has {table[0]} ids in rows of {table[1]}"
        )


def count_parameters(model: Clip, tower: Tower | None = None) -> dict[str, int]:
    """``{"blocks": n, "embeddings": n, "total": n}``, of the model or one tower.

    Embedding tables (tokens and positions) are counted separately because they dominate tiny models without adding
    compute. The scale belongs to neither tower; for the model it counts as part of the blocks.
    """
    # Token tables are nn.Embedding modules; positional embeddings are plain parameters, found by name below.
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    total = embeddings = 0
    for name, parameter in model.towers.named_parameters():
        if tower is None or split_name(name)[0] == tower:
            total += parameter.numel()
            if id(parameter) in tables or name.endswith("positional_embedding"):
                embeddings += parameter.numel()
    return {"blocks": total - embeddings, "embeddings": embeddings, "total": total}
