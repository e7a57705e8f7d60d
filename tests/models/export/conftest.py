"""Students of every kind that can be exported."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from workbench.config.inheritance import GatesConfig
from workbench.inheritance import gate, slice_gated
from workbench.models.clip import Clip
from workbench.models.tokenizers import BytePairTokenizer, WordTokenizer

RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}


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
