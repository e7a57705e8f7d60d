"""Export in transformers' form: names, config and embeddings."""

import json
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file

from tests.models import layouts
from tests.models.test_released import SMALL, state, uneven
from workbench.models import transformers_export
from workbench.models.clip import Clip
from workbench.models.export import export_model
from workbench.models.spec import load_model
from workbench.models.tokenizers import named_tokenizer


def student(config, seed=5) -> Clip:
    model = Clip(config, named_tokenizer("bpe", 77), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    model.towers.load_state_dict(state(config, seed), strict=False)
    return model.eval()


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_the_folder_has_transformers_names_and_config(tmp_path, quick_gelu: bool) -> None:
    model = student(SMALL | {"quick_gelu": quick_gelu})
    exported = export_model(model, tmp_path / "out", "transformers")
    assert exported.max_abs_difference < 1e-6
    written = load_file(tmp_path / "out" / "model.safetensors")
    expected = layouts.transformers(state(SMALL))
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    vision, text = config["vision_config"], config["text_config"]
    assert (vision["hidden_size"], vision["num_attention_heads"], vision["intermediate_size"]) == (128, 2, 512)
    assert (text["hidden_size"], text["num_hidden_layers"], config["projection_dim"]) == (64, 3, 64)
    assert vision["hidden_act"] == text["hidden_act"] == ("quick_gelu" if quick_gelu else "gelu")
    assert json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())["image_std"] == [0.4, 0.5, 0.6]


def test_it_loads_again_here(tmp_path) -> None:
    model = load_model("ViT-8M-16-Text-3M", seed=1).eval()
    export_model(model, tmp_path / "out", "transformers", half=True)
    again = load_model(f"open_clip:ViT-8M-16-Text-3M@{tmp_path / 'out' / 'model.safetensors'}")
    for name, tensor in model.towers.state_dict().items():
        assert torch.equal(again.towers.state_dict()[name], tensor.half().float())


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (uneven(), "has 0 to 3 heads|0 to 3 heads|layers of different shapes"),
        (SMALL | {"vision_cfg": SMALL["vision_cfg"] | {"pool_type": "avg"}}, "pooling"),
        (SMALL | {"vision_cfg": SMALL["vision_cfg"] | {"no_ln_pre": True}}, "no norm"),
    ],
)
def test_what_transformers_does_not_have_is_refused_with_the_reason(tmp_path, config, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        export_model(student(config), tmp_path / "out", "transformers")
    assert not (tmp_path / "out").exists()


def test_a_resnet_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="ModifiedResNet"):
        export_model(load_model("open_clip:RN50", seed=0).eval(), tmp_path / "out", "transformers")


@pytest.mark.skipif(find_spec("transformers") is None, reason="needs transformers")
def test_transformers_itself_gives_the_same_embeddings(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = transformers_export._read_by_transformers
    monkeypatch.setattr(transformers_export, "_read_by_transformers", lambda *given: read.append(1) or real(*given))
    assert export_model(student(SMALL), tmp_path / "out", "transformers").max_abs_difference < 1e-6
    assert read
