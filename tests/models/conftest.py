"""A tiny CLIP, and students of every kind that can be exported."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from workbench.config.inheritance import GatesConfig, Tower, TowerShape
from workbench.inheritance import gate, slice_gated
from workbench.models.clip import Clip
from workbench.models.configs import TABLES, tower_shape, with_shape
from workbench.models.tokenizers import BytePairTokenizer, WordTokenizer

TOKENIZER = WordTokenizer(words=("a", "blue", "circle", "red", "square"), context_length=8, num_buckets=4)
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 8, "vocab_size": TOKENIZER.vocab_size, "width": 24, "heads": 2, "layers": 1},
}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}


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
def with_table() -> Callable[..., dict[str, Any]]:
    """``with_table(config, tower, shape)``: the config with a table of the tower's shape, plain or not."""

    def tabled(config: dict[str, Any], tower: Tower, shape: TowerShape | None = None) -> dict[str, Any]:
        shape = shape or tower_shape(config, tower)
        config = copy.deepcopy(with_shape(config, tower, shape))
        table = {"head_width": shape.head_width, "heads": list(shape.heads), "channels": list(shape.channels)}
        config[TABLES] = config.get(TABLES, {}) | {tower: table}
        return config

    return tabled


@pytest.fixture
def no_fast_path() -> Iterator[None]:
    """open_clip's blocks compute in evaluation as in training: torch's kernel for inference rounds differently."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


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


@pytest.fixture
def make_sliced(make_clip: Callable[..., Clip]) -> Callable[..., Clip]:
    """``make_sliced(seed, sparsity)``: what random gates leave of the small CLIP, its biases random too."""

    def make(seed: int = 0, sparsity: float = 0.5) -> Clip:
        generator = torch.Generator().manual_seed(seed)
        teacher = make_clip(seed)
        with torch.no_grad():
            for tensor in teacher.towers.parameters():
                if tensor.ndim == 1:
                    tensor.add_(torch.rand(tensor.shape, generator=generator) - 0.5)
            gated = gate(teacher, GatesConfig(sparsity=sparsity))
            for log_alpha in gated.gates.log_alphas():
                log_alpha.copy_(torch.randn(log_alpha.shape, generator=generator) * 4)
        gated.gates.fix(gated.gates.final_masks())
        return slice_gated(gated).eval()

    return make


@pytest.fixture
def make_student(
    config: dict[str, Any], tokenizer: WordTokenizer, make_clip: Callable[..., Clip], make_sliced: Callable[..., Clip]
) -> Callable[[str], Clip]:
    """``make_student(kind)``, of "plain", "sliced", "resnet" and "bpe"."""

    def make(kind: str) -> Clip:
        own = copy.deepcopy(config)
        if kind == "resnet":
            return Clip(own | {"vision_cfg": dict(RESNET)}, tokenizer).eval()
        if kind == "bpe":
            own["text_cfg"] |= {"context_length": 12, "vocab_size": 49408, "width": 8}
            return Clip(own, BytePairTokenizer(12)).eval()
        return make_clip() if kind == "plain" else make_sliced()

    return make
