"""The last FFN runs for the pooled token alone, and nothing that anyone reads changes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.models.conftest import CONFIG, RESNET
from workbench.embeddings import FeatureKey
from workbench.models import clip as module
from workbench.models.clip import Clip
from workbench.models.pooling import LEAST_ROWS, pooled_token_only
from workbench.models.towers import Perceptron

VISION, TEXT = CONFIG["vision_cfg"], CONFIG["text_cfg"]
# Models by what they pool, and whether the last FFN of the image and the text tower is for one token.
MODELS = {
    "plain": ({}, True, True),
    "custom text": ({"custom_text": True}, True, True),
    "norm after pooling": ({"vision_cfg": VISION | {"final_ln_after_pool": True}}, True, True),
    "mean of patches": ({"vision_cfg": VISION | {"pool_type": "avg"}}, False, True),
    "attention pooling": ({"vision_cfg": VISION | {"attentional_pool": True, "attn_pooler_queries": 4}}, False, True),
    "layer scale": ({"vision_cfg": VISION | {"ls_init_value": 0.1}}, False, True),
    "resnet": ({"vision_cfg": RESNET}, False, True),
    "last token": ({"text_cfg": TEXT | {"pool_type": "last"}}, True, False),
    "a text's class token": ({"custom_text": True, "text_cfg": TEXT | {"embed_cls": True}}, True, False),
}


@pytest.fixture
def in_full(monkeypatch):
    """``in_full(function)``: its result with every FFN for all tokens."""

    def call(function):
        with monkeypatch.context() as patch:
            patch.setattr(module, "pooled_token_only", lambda *_: pooled_token_only(None, None))
            return function()

    return call


@pytest.fixture
def ffn_tokens(monkeypatch):
    """The number of tokens of each FFN that has run so far."""
    seen = []
    real = Perceptron.forward

    def forward(self: nn.Module, tokens_BTC: torch.Tensor) -> torch.Tensor:
        seen.append(tokens_BTC.shape[1])
        return real(self, tokens_BTC)

    monkeypatch.setattr(Perceptron, "forward", forward)
    return seen


@pytest.mark.parametrize(("changes", "image", "text"), MODELS.values(), ids=MODELS)
def test_embeddings_and_gradients_are_those_of_all_tokens(
    images, captions, tokenizer, in_full, ffn_tokens, changes, image: bool, text: bool
):
    model = Clip(copy.deepcopy(CONFIG) | changes, tokenizer, seed=2).train()
    pixels, text_BL = images(16, model.image_size), tokenizer(captions(16))

    def learn():
        model.load_state_dict(before)  # with the statistics of batch norms
        model.zero_grad()
        image_BD, text_BD = model.encode_image(pixels), model.encode_text(text_BL)
        logits_BB = 10 * F.normalize(image_BD, dim=1) @ F.normalize(text_BD, dim=1).T
        F.cross_entropy(logits_BB, torch.arange(16)).backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        return image_BD.detach(), text_BD.detach(), gradients

    before = copy.deepcopy(model.state_dict())
    image_BD, text_BD, gradients = learn()
    num_single = ffn_tokens.count(1)
    assert num_single == image + text
    expected = in_full(learn)
    assert ffn_tokens.count(1) == num_single
    assert torch.equal(image_BD, expected[0])
    assert torch.equal(text_BD, expected[1])
    assert gradients.keys() == expected[2].keys()
    largest = max(float(gradient.abs().max()) for gradient in expected[2].values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[2][name], atol=8e-7 * largest, rtol=0, msg=name)


def test_who_reads_the_last_block_gets_all_tokens(make_clip, images, in_full, ffn_tokens):
    model, image = make_clip(), images(16)
    for key in (FeatureKey(-1, "tokens"), FeatureKey(-1, "pooled"), FeatureKey(0, "tokens")):
        found = model.encode_image_with_features(image, [key])[1][key]
        assert torch.equal(found, in_full(lambda key=key: model.encode_image_with_features(image, [key])[1][key]))
    seen = []
    model.towers.visual.transformer.resblocks[-1].mlp.c_fc.register_forward_hook(lambda *given: seen.append(given[2]))
    ffn_tokens.clear()
    model.encode_image(image)
    assert seen[0].shape[1] == 5
    assert ffn_tokens == [5, 5]


@pytest.mark.parametrize(("num_rows", "num_single"), [(LEAST_ROWS - 1, 0), (LEAST_ROWS, 2)])
def test_few_rows_are_computed_in_full(make_clip, images, captions, tokenizer, ffn_tokens, num_rows, num_single):
    """Smaller products have kernels that round differently."""
    make_clip().embed(images(num_rows), tokenizer(captions(num_rows)))
    assert ffn_tokens.count(1) == num_single


def test_nothing_stays_after_an_error(make_clip, images):
    model = make_clip()
    block = model.towers.visual.transformer.resblocks[-1]
    block.mlp.c_proj.weight.data = torch.zeros(3, 3)
    with pytest.raises(RuntimeError, match="shapes"):
        model.encode_image(images(16))
    assert block.read_B is None
