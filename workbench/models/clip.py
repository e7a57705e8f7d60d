"""A CLIP of open_clip's, together with what it must be fed."""

import hashlib
import json
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.embeddings import MAX_LOG_SCALE, Embeddings, InputForm
from workbench.models.reasons import reason
from workbench.models.tokenizers import Tokenizer
from workbench.randomness import derive_seed


class Clip(nn.Module):
    """Two open_clip towers with their tokenizer and the normalisation of their pictures.

    Args:
        config: an open_clip model config: embed_dim, vision_cfg, text_cfg and so on.
        tokenizer: must fit the config's vocabulary and context length.
        mean, std: of the three colour channels, in [0, 1].
        seed: of the initial weights; the global random state is left as it was.

    Raises:
        ValueError: open_clip cannot build this config, its pictures are not square, or the tokenizer does not fit it.
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
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.mean, self.std = tuple(mean), tuple(std)
        custom_text = config.get("custom_text") or "hf_model_name" in config["text_cfg"]
        build = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
        arguments = {key: value for key, value in config.items() if key != "custom_text"}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "initial weights"))
            try:
                self.towers = build(**arguments)
            except Exception as error:  # open_clip checks little: a bad config stumbles anywhere in its code
                raise ValueError(f"open_clip cannot build this model config: {reason(error)}") from error
        self.image_size = _side(self.towers.visual.image_size)
        _check_fit(tokenizer, config["text_cfg"])
        self.register_buffer("_mean", torch.tensor(self.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).view(1, 3, 1, 1) * 255, persistent=False)

    @property
    def width(self) -> int:
        """The embedding width D."""
        return int(self.config["embed_dim"])

    @property
    def form(self) -> InputForm:
        """What the model wants to be fed."""
        identity = hashlib.sha256(json.dumps(self.tokenizer.spec, sort_keys=True).encode()).hexdigest()
        return InputForm(self.image_size, self.tokenizer, identity)

    @property
    def scale(self) -> Tensor:
        """The learnt positive scale 1/τ, 0-d."""
        scale: Tensor = self.towers.logit_scale.exp().reshape(())
        return scale

    def encode_image(self, image_BCHW: Tensor) -> Tensor:
        """uint8 pictures [B, 3, H, W] -> raw float32 embeddings [B, D], not normalised."""
        pixels = (image_BCHW.float() - self._mean) / self._std
        raw: Tensor = self.towers.encode_image(pixels)
        return raw.float()

    def encode_text(self, text_BL: Tensor) -> Tensor:
        """Token ids [B, L] -> raw float32 embeddings [B, D], not normalised."""
        raw: Tensor = self.towers.encode_text(text_BL)
        return raw.float()

    def embed(self, image_BCHW: Tensor, text_BL: Tensor) -> Embeddings:
        """Unit-length embeddings of B pairs."""
        image, text = self.encode_image(image_BCHW), self.encode_text(text_BL)
        return Embeddings(F.normalize(image, dim=1), F.normalize(text, dim=1), self.scale)

    @torch.no_grad()
    def clamp_scale_(self) -> None:
        """Return the scale to CLIP's range [1, 100] after an optimiser step."""
        self.towers.logit_scale.clamp_(0, MAX_LOG_SCALE)


def _side(image_size: int | tuple[int, int]) -> int:
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if height != width:
        raise ValueError(f"image_size {height} x {width}: the workbench feeds square pictures only")
    return height


def _check_fit(tokenizer: Tokenizer, text: dict[str, Any]) -> None:
    table = (text.get("vocab_size", 49408), text.get("context_length", 77))
    if (tokenizer.vocab_size, tokenizer.context_length) != table:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} ids in rows of {tokenizer.context_length}, "
            f"but the model is made for {table[0]} in rows of {table[1]}"
        )
