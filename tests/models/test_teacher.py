"""The teacher is frozen, and a row's embedding does not depend on its batch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.models.conftest import CONFIG, RESNET
from workbench.embeddings import FeatureKey
from workbench.models.clip import Clip, count_parameters
from workbench.models.precision import autocast
from workbench.models.teacher import Teacher
from workbench.models.weights import weights_sha256


@pytest.fixture
def make_teacher(make_clip):
    return lambda chunk_size=4, **options: Teacher(make_clip(1), chunk_size, **options)


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_embeddings_are_those_of_its_model_at_unit_length(make_teacher, make_clip, images, captions, count):
    teacher, model = make_teacher(), make_clip(1)
    image, text = images(count), teacher.tokenize(captions(count))
    embedded, expected = teacher.embed(image, text), model.embed(image, text)
    for rows, reference in ((embedded.image_BD, expected.image_BD), (embedded.text_BD, expected.text_BD)):
        assert rows.shape == (count, 16)
        assert rows.dtype == torch.float32
        assert not rows.requires_grad
        torch.testing.assert_close(rows, reference.detach(), atol=1e-6, rtol=0)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(count), atol=1e-6, rtol=0)
    assert torch.equal(embedded.scale, model.scale.detach())
    assert not embedded.scale.requires_grad


@pytest.mark.parametrize("chunk_size", [4, 5])
def test_a_row_is_bitwise_the_same_in_a_batch_of_any_size(make_teacher, images, captions, chunk_size):
    teacher = make_teacher(chunk_size)
    image, text = images(11), teacher.tokenize(captions(11))
    whole_image, whole_text = teacher.embed_image(image), teacher.embed_text(text)
    for count in range(1, 12):
        assert torch.equal(teacher.embed_image(image[:count]), whole_image[:count])
        assert torch.equal(teacher.embed_text(text[:count]), whole_text[:count])


def test_a_row_is_the_same_wherever_it_stands(make_teacher, images, captions):
    teacher = make_teacher()
    image, text = images(9), teacher.tokenize(captions(9))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    for embed, inputs in ((teacher.embed_image, image), (teacher.embed_text, text)):
        whole = embed(inputs)
        torch.testing.assert_close(embed(inputs[order]), whole[order], atol=1e-6, rtol=0)
        for index in range(9):
            torch.testing.assert_close(embed(inputs[index : index + 1])[0], whole[index], atol=1e-6, rtol=0)


def test_every_forward_has_the_same_shape(make_clip, images):
    model = make_clip()
    shapes = []
    model.towers.visual.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    Teacher(model, chunk_size=4).embed_image(images(9))
    assert shapes == [(4, 3, 16, 16)] * 3


FEATURES = [FeatureKey(0, "map"), FeatureKey(-1, "pooled"), FeatureKey(0, "tokens")]


@pytest.mark.parametrize("count", [1, 4, 9])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_features_come_with_the_very_same_embeddings(make_teacher, make_clip, images, captions, count, precision):
    teacher, model = make_teacher(precision=precision), make_clip(1)
    image, text = images(count), teacher.tokenize(captions(count))
    expected = teacher.embed(image, text)
    embedded, features = teacher.embed_with_features(image, text, FEATURES)
    assert torch.equal(embedded.image_BD, expected.image_BD)
    assert torch.equal(embedded.text_BD, expected.text_BD)
    assert torch.equal(embedded.scale, expected.scale)
    assert list(features) == FEATURES
    for key, feature in features.items():
        (reference,) = model.features(image, [key.block], key.form)
        assert (feature.shape, feature.dtype, feature.requires_grad) == (reference.shape, torch.float32, False)
        error = 1e-5 if precision == "fp32" else 0.05
        torch.testing.assert_close(feature, reference.detach(), atol=error, rtol=error)


def test_a_row_of_features_is_bitwise_the_same_in_a_batch_of_any_size(make_teacher, images, captions):
    teacher = make_teacher(chunk_size=4)
    image, text = images(9), teacher.tokenize(captions(9))
    _, whole = teacher.embed_with_features(image, text, FEATURES)
    for count in (1, 4, 6):
        _, some = teacher.embed_with_features(image[:count], text[:count], FEATURES)
        assert all(torch.equal(some[key], whole[key][:count]) for key in FEATURES)


def test_features_cost_no_second_forward(make_clip, images, captions):
    model = make_clip()
    forwards = []
    model.towers.visual.register_forward_pre_hook(lambda *_: forwards.append(1))
    teacher = Teacher(model, chunk_size=4)
    teacher.embed_with_features(images(9), teacher.tokenize(captions(9)), FEATURES)
    assert len(forwards) == 3


def test_the_same_feature_asked_for_twice_comes_once(make_teacher, images, captions):
    teacher = make_teacher()
    image, text = images(6), teacher.tokenize(captions(6))
    _, features = teacher.embed_with_features(image, text, [FEATURES[0], FEATURES[0]])
    assert [feature.shape for feature in features.values()] == [(6, 32, 2, 2)]


def test_it_cannot_learn(make_clip, images, captions):
    model = make_clip().train()
    teacher = Teacher(model)
    assert not isinstance(teacher, nn.Module)
    assert not any(hasattr(teacher, name) for name in ("train", "parameters", "modules", "state_dict"))
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    before = teacher.fingerprint()
    with torch.enable_grad():
        embedded = teacher.embed(images(2), teacher.tokenize(captions(2)))
    assert embedded.image_BD.grad_fn is embedded.text_BD.grad_fn is embedded.scale.grad_fn is None
    assert teacher.fingerprint() == before


def test_a_module_that_holds_it_neither_trains_nor_optimizes_it(make_clip):
    model = make_clip()

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.teacher = Teacher(model)

    holder = Holder().train()
    assert list(holder.parameters()) == []
    assert not any(module.training for module in model.modules())


def test_its_fingerprint_is_that_of_the_towers_and_changes_with_one_bit(make_clip):
    model = make_clip()
    teacher = Teacher(model)
    before = teacher.fingerprint()
    assert before == weights_sha256(make_clip().towers) != Teacher(make_clip(2)).fingerprint()
    model.towers.ln_final.bias.view(torch.int32)[0] ^= 1
    assert teacher.fingerprint() != before


def test_its_size_and_input_spec(make_teacher, make_clip, tokenizer):
    teacher, model = make_teacher(), make_clip()
    assert (teacher.width, teacher.input_spec) == (16, model.input_spec)
    assert teacher.block_widths == model.block_widths == (32, 32)
    assert teacher.num_parameters == count_parameters(model)
    assert torch.equal(teacher.tokenize(["a red square"]), tokenizer(["a red square"]))


def test_half_precision_stays_inside(make_teacher, images, captions):
    exact, rounded = make_teacher(), make_teacher(precision="bf16")
    image, text = images(5), exact.tokenize(captions(5))
    for full, half in zip(
        (exact.embed_image(image), exact.embed_text(text)),
        (rounded.embed_image(image), rounded.embed_text(text)),
        strict=True,
    ):
        assert half.dtype == torch.float32
        assert not torch.equal(half, full)
        torch.testing.assert_close((half * full).sum(dim=1), torch.ones(5), atol=1e-3, rtol=0)
        torch.testing.assert_close(half.norm(dim=1), torch.ones(5), atol=1e-6, rtol=0)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"custom_text": True},
        {"quick_gelu": True},
        {"vision_cfg": RESNET},
        {"vision_cfg": {**CONFIG["vision_cfg"], "attentional_pool": True, "attn_pooler_queries": 4}},
        {"vision_cfg": {**CONFIG["vision_cfg"], "ls_init_value": 0.1}},
    ],
    ids=["plain", "custom text", "quick gelu", "resnet", "attention pooling", "layer scale"],
)
@torch.no_grad()
def test_weights_held_in_half_precision_change_no_bit(images, captions, tokenizer, precision, changes):
    """Autocast rounds them to the same values before each use."""
    model = Clip(CONFIG | changes, tokenizer, seed=1).eval()
    image, text = images(5, model.image_size), tokenizer(captions(5))
    sha256, num_bytes = weights_sha256(model.towers), sum(p.nbytes for p in model.towers.parameters())
    with autocast(image.device, precision):
        expected = model.encode_image(image), model.encode_text(text)
    teacher = Teacher(model, 5, precision)
    assert torch.equal(teacher.embed_image(image), F.normalize(expected[0], dim=1))
    assert torch.equal(teacher.embed_text(text), F.normalize(expected[1], dim=1))
    assert teacher.fingerprint() == teacher.in_chunks_of(2).fingerprint() == sha256
    assert sum(p.nbytes for p in model.towers.parameters()) < 0.9 * num_bytes
    assert teacher.scale.dtype == torch.float32


def test_a_float32_teacher_keeps_its_weights(make_clip):
    model = make_clip(1)
    Teacher(model)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
