"""A tiny teacher, and a reference implementation of its gated forward."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.models.clip import Clip
from workbench.models.tokenizers import WordTokenizer

TOKENIZER = WordTokenizer(words=("a", "blue", "circle", "red", "square"), context_length=8, num_buckets=4)
CONFIG = {  # 4 layers of 4 heads of 8 for images, 3 layers of 4 heads of 6 for texts
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 4, "head_width": 8},
    "text_cfg": {"context_length": 8, "vocab_size": TOKENIZER.vocab_size, "width": 24, "heads": 4, "layers": 3},
}
RESNET = {"image_size": 64, "layers": [1, 3, 2, 1], "width": 8, "head_width": 16}


@pytest.fixture(scope="session")
def make_teacher() -> Callable[..., Clip]:
    """``make_teacher(**vision)``: the teacher in evaluation mode, its biases and gains random too."""

    def make(custom_text: bool = False, quick_gelu: bool = False, **vision: Any) -> Clip:
        config = copy.deepcopy(CONFIG) | {"custom_text": custom_text, "quick_gelu": quick_gelu}
        config["vision_cfg"] |= vision
        return randomised(Clip(config, TOKENIZER))

    return make


@pytest.fixture
def resnet() -> Clip:
    """A teacher with a ModifiedResNet of 1, 3, 2 and 1 blocks and width 8."""
    return randomised(Clip(copy.deepcopy(CONFIG) | {"vision_cfg": dict(RESNET)}, TOKENIZER))


def randomised(model: Clip) -> Clip:
    """What starts at 0 or 1 would hide mistakes: biases, gains and running statistics become random."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.towers.state_dict().items():
            if tensor.ndim == 1 and tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(noise + 0.5 if "weight" in name or "var" in name else noise - 0.5)
    return model.eval()


@pytest.fixture(scope="session")
def inputs() -> tuple[Tensor, Tensor]:
    """Five images of noise and five texts."""
    generator = torch.Generator().manual_seed(2)
    image = torch.randint(0, 256, (5, 3, 16, 16), generator=generator, dtype=torch.uint8)
    return image, TOKENIZER(["a red square", "blue", "a circle", "something else", "a a a a a a a a a"])


class Oracle:
    """The masked model by hand: heads one at a time, and norms over the open channels picked out."""

    def __init__(self, teacher: Clip, gate_values: dict[str, Any]) -> None:
        self.teacher, self.gate_values = teacher, gate_values

    def encode_image(self, image: Tensor) -> Tensor:
        visual, gates_C = self.teacher.towers.visual, self.gate_values["image"].embedding_C
        patches = visual.conv1((image.float() - self.teacher._mean) / self.teacher._std).flatten(2).mT
        tokens = torch.cat([visual.class_embedding.expand(len(image), 1, -1), patches], dim=1)
        tokens = self._norm((tokens + visual.positional_embedding) * gates_C, visual.ln_pre, gates_C)
        tokens = self._norm(self._blocks(visual.transformer, tokens, "image"), visual.ln_post, gates_C)
        return tokens[:, 0] @ visual.proj if visual.pool_type == "tok" else tokens[:, 1:].mean(dim=1) @ visual.proj

    def encode_text(self, text: Tensor) -> Tensor:
        owner = getattr(self.teacher.towers, "text", self.teacher.towers)
        gates_C = self.gate_values["text"].embedding_C
        tokens = (owner.token_embedding(text) + owner.positional_embedding) * gates_C
        tokens = self._norm(self._blocks(owner.transformer, tokens, "text"), owner.ln_final, gates_C)
        return tokens[range(len(text)), text.argmax(dim=1)] @ owner.text_projection

    def _norm(self, tokens: Tensor, norm: Any, gates_C: Tensor) -> Tensor:
        picked = gates_C.nonzero().flatten()
        normed = torch.zeros_like(tokens)
        weights = norm.weight[picked], norm.bias[picked]
        normed[..., picked] = F.layer_norm(tokens[..., picked], (len(picked),), *weights, norm.eps)
        return normed

    def _blocks(self, transformer: Any, tokens: Tensor, tower: str) -> Tensor:
        gate_values = self.gate_values[tower]
        num_tokens = tokens.shape[1]
        mask = torch.full((num_tokens, num_tokens), float("-inf")).triu(1) if tower == "text" else torch.zeros(1)
        for layer, block in enumerate(transformer.resblocks):
            width = block.attn.head_width
            normed = self._norm(tokens, block.ln_1, gate_values.embedding_C)
            projected = normed @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
            output = block.attn.out_proj.bias
            for head, gates_C in enumerate(gate_values.heads[layer]):
                query, key, value = (
                    part[..., head * width : (head + 1) * width] for part in projected.chunk(3, dim=-1)
                )
                attention = (query @ key.mT / width**0.5 + mask).softmax(dim=-1)
                columns = block.attn.out_proj.weight[:, head * width : (head + 1) * width]
                output = output + gates_C * (attention @ value) @ columns.T
            tokens = tokens + output * gate_values.embedding_C
            normed = self._norm(tokens, block.ln_2, gate_values.embedding_C)
            hidden = (
                block.mlp.gelu(normed @ block.mlp.c_fc.weight.T + block.mlp.c_fc.bias) * gate_values.channels[layer]
            )
            output = hidden @ block.mlp.c_proj.weight.T + block.mlp.c_proj.bias
            tokens = tokens + output * gate_values.embedding_C
        return tokens


@pytest.fixture(scope="session")
def oracle() -> type[Oracle]:
    """``oracle(teacher, gate_values)``: encodes images and texts through gates with these values."""
    return Oracle
