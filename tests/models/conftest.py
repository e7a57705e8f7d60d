"""A tiny CLIP."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from workbench.models.clip import Clip
from workbench.models.tokenizers import WordTokenizer

TOKENIZER = WordTokenizer(words=("a", "blue", "circle", "red", "square"), context_length=8, num_buckets=4)
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 8, "vocab_size": TOKENIZER.vocab_size, "width": 24, "heads": 2, "layers": 1},
}


@pytest.fixture
def tokenizer() -> WordTokenizer:
    """Five words, four buckets, rows of eight."""
    return TOKENIZER


@pytest.fixture
def config() -> dict[str, Any]:
    """The small CLIP's config, to change at will."""
    return copy.deepcopy(CONFIG)


@pytest.fixture
def make_clip() -> Callable[..., Clip]:
    """``make_clip(seed, **arguments)``: a small CLIP in evaluation mode."""

    def make(seed: int = 0, **arguments: Any) -> Clip:
        return Clip(copy.deepcopy(CONFIG), TOKENIZER, seed=seed, **arguments).eval()

    return make


@pytest.fixture
def images() -> Callable[..., torch.Tensor]:
    """``images(count)``: uint8 noise, the same every time."""

    def make(count: int, size: int = 16) -> torch.Tensor:
        generator = torch.Generator().manual_seed(count)
        return torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)

    return make


@pytest.fixture
def captions() -> Callable[[int], list[str]]:
    """``captions(count)``: captions that all differ, some of them in unknown words."""
    return lambda count: [f"a {'red' if number % 2 else 'blue'} square number{number}" for number in range(count)]
