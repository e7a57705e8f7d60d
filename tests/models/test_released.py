"""Files in the layouts of released students load with the weights they were made from."""

import argparse
import copy

import numpy as np
import open_clip
import pytest
import torch
from open_clip.factory import get_model_config

from tests.models import layouts
from workbench.config.inheritance import TowerShape
from workbench.models.architectures import WeightsWarning, config_of
from workbench.models.clip import Clip
from workbench.models.configs import tower_shape, with_shape
from workbench.models.released import from_transformers, in_open_clips_names, renamed_swin, to_transformers
from workbench.models.spec import load_model, spec_of_file
from workbench.models.tokenizers import named_tokenizer

NAME = "ViT-8M-16-Text-3M"
SMALL = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 128, "layers": 3, "head_width": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 3},
}


def state(config, seed=5):
    torch.manual_seed(seed)
    model = Clip(config, named_tokenizer("bpe", 77), seed=seed)
    for tensor in model.towers.parameters():
        torch.nn.init.normal_(tensor, std=0.05)
    torch.nn.init.constant_(model.towers.logit_scale, 3.0)
    return {name: value.clone() for name, value in model.towers.state_dict().items() if name != "attn_mask"}


@pytest.fixture(scope="module")
def released():
    """Weights of TinyCLIP's smallest student, by open_clip's names."""
    return state(load_model(NAME, seed=0).config)


LAYOUTS = {
    "TinyCLIP": lambda tensors: {"state_dict": layouts.tinyclip(tensors)},
    "TinyCLIP, DDP outside too": lambda tensors: {"state_dict": layouts.tinyclip(tensors, outer="module.")},
    "TinyCLIP, without DDP": lambda tensors: {"state_dict": layouts.tinyclip(tensors, ddp=False)},
    "TinyCLIP, both names": lambda tensors: layouts.tinyclip(tensors) | layouts.tinyclip(tensors, ddp=False),
    "transformers": layouts.transformers,
    "CLIP-KD": layouts.clip_kd,
    "FSDP": lambda tensors: tensors | {"logit_scale": tensors["logit_scale"].reshape(1)},
    "attn_mask": lambda tensors: tensors | {"attn_mask": torch.zeros(77, 77)},
    "EMA": lambda tensors: {"epoch": 3, "state_dict_ema": {f"module.{name}": x for name, x in tensors.items()}},
    "model_ema": lambda tensors: {"model_ema": tensors},
    "Lightning": lambda tensors: {"state_dict": {f"model.{name}": x for name, x in tensors.items()}},
    "Lightning, with a criterion": lambda tensors: {
        "state_dict": {f"clip_model.{name}": x for name, x in tensors.items()} | {"loss.weight": torch.ones(3)}
    },
    "beside its teacher": lambda tensors: (
        {f"student.{name}": x for name, x in tensors.items()}
        | {f"teacher.{name}": x + 1 for name, x in tensors.items()}
    ),
    "CustomTextCLIP": lambda tensors: {
        name if name.startswith("visual.") or name == "logit_scale" else f"text.{name}": x
        for name, x in tensors.items()
    },
    "options and a numpy metric": lambda tensors: {
        "args": argparse.Namespace(lr=0.1, betas=[0.9, 0.98]),
        "best": np.float64(0.5),
        "model": tensors,
    },
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_loads_by_name(tmp_path, released, layout):
    path = tmp_path / "weights.pt"
    torch.save(layout(released), path)
    loaded = load_model(f"open_clip:{NAME}@{path}").towers.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in released.items())


@pytest.mark.parametrize("layout", ["TinyCLIP", "transformers", "CLIP-KD"])
def test_a_file_alone_is_recognized_and_its_activation_named(tmp_path, released, layout):
    path = tmp_path / "weights.pt"
    torch.save(LAYOUTS[layout](released), path)
    assert spec_of_file(path) == f"open_clip:{NAME}@{path}"
    with pytest.warns(WeightsWarning, match="teacher import"):
        loaded = load_model(str(path)).towers.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in released.items())


def test_openais_files_hold_three_integers_and_half_precision(tmp_path, released):
    path = tmp_path / "weights.pt"
    torch.save(layouts.openai(released), path)
    loaded = load_model(f"open_clip:{NAME}@{path}").towers.state_dict()
    assert all(torch.equal(loaded[name], value.half().float()) for name, value in released.items())


def test_two_encoders_that_differ_are_refused(tmp_path, released):
    path = tmp_path / "weights.pt"
    other = {name: value + 1 for name, value in released.items()}
    torch.save(layouts.tinyclip(released) | layouts.tinyclip(other, ddp=False), path)
    with pytest.raises(ValueError, match=r"weights\.pt is refused: two encoders"):
        load_model(str(path))


def test_transformers_names_and_back(released):
    theirs = layouts.transformers(released)
    back = to_transformers(released)
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], value) for name, value in theirs.items())
    assert all(torch.equal(from_transformers(theirs)[name], value) for name, value in released.items())


def uneven():
    """A config with a tower of 3, 1 and no heads, and a text tower without FFN in one layer."""
    image = TowerShape(width=75, head_width=64, heads=(3, 1, 0), channels=(200, 33, 7))
    text = TowerShape(width=50, head_width=64, heads=(1, 2, 1), channels=(100, 0, 64))
    return with_shape(with_shape(copy.deepcopy(SMALL), "image", image), "text", text)


def test_unevenly_pruned_students_are_read_off_their_shapes(tmp_path):
    config = uneven()
    tensors = state(config)
    # As the release does: a branch that is gone leaves nothing behind, not even its output bias.
    lost = ["visual.transformer.resblocks.2.attn.bias", "transformer.resblocks.1.mlp.bias"]
    kept = {name: value for name, value in tensors.items() if name not in lost}
    path = tmp_path / "auto.pt"
    torch.save({"state_dict": layouts.tinyclip(kept)}, path)
    assert spec_of_file(path) == str(path)
    with pytest.warns(WeightsWarning, match=r"taken as 0 \(visual\.transformer\.resblocks\.2\.attn\.bias, transformer"):
        model = load_model(str(path))
    for tower in ("image", "text"):
        assert tower_shape(model.config, tower) == tower_shape(config, tower)
    loaded = model.towers.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in kept.items())
    assert all(not loaded[name].any() for name in lost)

    # The same function as the model it was saved from, whose lost biases were zero.
    original = Clip(config, named_tokenizer("bpe", 77))
    original.towers.load_state_dict(tensors | {name: torch.zeros_like(tensors[name]) for name in lost}, strict=False)
    image, text = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8), torch.randint(1, 400, (2, 77))
    one, other = model.eval().embed(image, text), original.eval().embed(image, text)
    assert torch.equal(one.image_BD, other.image_BD)
    assert torch.equal(one.text_BD, other.text_BD)


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16", "ViT-39M-16-Text-19M", "ViT-40M-32-Text-19M"])
def test_a_plain_architecture_read_off_its_shapes_is_open_clips(name):
    config = get_model_config(name) or load_model(name, seed=0).config
    with torch.device("meta"):
        tensors = open_clip.CLIP(**{key: value for key, value in config.items() if key != "quick_gelu"}).state_dict()
    with torch.device("meta"):
        read = open_clip.CLIP(**config_of(tensors)).state_dict()
    assert {name: value.shape for name, value in read.items()} == {name: x.shape for name, x in tensors.items()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"visual.transformer.resblocks.0.attn.in_proj_weight": torch.zeros(100, 128)}, "no heads of 64"),
        ({"visual.conv1.weight": torch.zeros(3, 3)}, "config:FILE.json"),
    ],
)
def test_shapes_of_nothing_known_name_the_remedy(tmp_path, change, reason):
    path = tmp_path / "weights.pt"
    torch.save(state(SMALL) | change, path)
    with pytest.raises(ValueError, match=reason):
        load_model(str(path))


def test_swin_towers_of_old_timm_load():
    import timm

    trunk = timm.create_model("swin_tiny_patch4_window7_224", num_classes=0)
    tensors = {f"visual.trunk.{name}": value for name, value in trunk.state_dict().items()}
    old = layouts.old_swin(tensors)
    assert old.keys() != tensors.keys()
    new = renamed_swin(old)
    assert new.keys() == tensors.keys()
    assert all(torch.equal(new[name], value) for name, value in tensors.items())
    assert renamed_swin(tensors).keys() == tensors.keys()


def test_names_of_no_known_layout_stay():
    names = {"weight": torch.ones(2), "text.weight": torch.ones(3)}
    assert in_open_clips_names(names) == names
