"""A model folder is read back unchanged, by open_clip too."""

import json
import re

import open_clip
import pytest
import torch
from open_clip import factory
from torchvision.transforms import Normalize

from workbench.models import architectures
from workbench.models.architectures import Normalization
from workbench.models.clip import Clip
from workbench.models.folder import CONFIG, TOKENIZER, WEIGHTS, load_folder, save_folder
from workbench.models.tokenizers import BytePairTokenizer

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture
def folder(tmp_path, make_clip):
    save_folder(make_clip(4, mean=MEAN, std=STD), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_model_comes_back_as_it_was_rounded(tmp_path, make_clip, dtype):
    model = make_clip(4, mean=MEAN, std=STD)
    save_folder(model, tmp_path / "a" / "b", dtype)
    loaded = load_folder(tmp_path / "a" / "b")
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, model.state_dict()[name].to(dtype).float())
    assert (loaded.config, loaded.tokenizer) == (model.config, model.tokenizer)
    assert (loaded.mean, loaded.std) == (MEAN, STD)
    assert loaded.input_spec == model.input_spec


def test_half_precision_halves_the_file(tmp_path, make_clip):
    sizes = []
    for dtype in (torch.float32, torch.float16):
        save_folder(make_clip(), tmp_path, dtype)
        sizes.append((tmp_path / WEIGHTS).stat().st_size)
    numbers = sum(parameter.numel() for parameter in make_clip().parameters())
    assert sizes[0] - sizes[1] == pytest.approx(2 * numbers, abs=64)


def test_counters_are_not_rounded(tmp_path, config, tokenizer):
    config["vision_cfg"] = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}
    model = Clip(config, tokenizer)
    model.towers.visual.bn1.num_batches_tracked.fill_(4099)  # float16 would say 4100
    save_folder(model, tmp_path, torch.float16)
    assert load_folder(tmp_path).towers.visual.bn1.num_batches_tracked == 4099


@torch.no_grad()
@pytest.mark.parametrize("custom_text", [False, True])
def test_open_clip_reads_the_folder(tmp_path, config, tokenizer, images, captions, custom_text):
    model = Clip(config | {"custom_text": custom_text}, tokenizer, mean=MEAN, std=STD, seed=4).eval()
    save_folder(model, tmp_path)
    theirs, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    theirs.eval()
    image, text = images(4), tokenizer(captions(4))
    assert torch.equal(theirs.encode_text(text), model.encode_text(text))
    normalise = next(step for step in transform.transforms if isinstance(step, Normalize))
    assert (tuple(normalise.mean), tuple(normalise.std)) == (MEAN, STD)
    assert transform.transforms[0].size == 16
    torch.testing.assert_close(
        theirs.encode_image(normalise(image / 255)), model.encode_image(image), atol=1e-5, rtol=0
    )


def test_the_byte_pair_tokenizer_comes_back(tmp_path, config):
    config["text_cfg"] |= {"context_length": 12, "vocab_size": 49408, "width": 4}
    save_folder(Clip(config, BytePairTokenizer(12)), tmp_path)
    assert load_folder(tmp_path).tokenizer == BytePairTokenizer(12)


def test_a_folder_from_the_hub_will_do(tmp_path, config):
    """It has the hub's own tokenizer.json, or none, and may have the older kind of weights."""
    config["text_cfg"] |= {"context_length": 12, "vocab_size": 49408, "width": 4}
    model = Clip(config, BytePairTokenizer(12), seed=3)
    save_folder(model, tmp_path)
    (tmp_path / TOKENIZER).write_text('{"version": "1.0", "model": {"type": "BPE"}}')
    (tmp_path / WEIGHTS).unlink()
    torch.save(model.towers.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    loaded = load_folder(tmp_path)
    assert loaded.tokenizer == BytePairTokenizer(12)
    assert torch.equal(loaded.towers.text_projection, model.towers.text_projection)
    (tmp_path / TOKENIZER).unlink()
    assert load_folder(tmp_path).tokenizer == BytePairTokenizer(12)
    foreign = json.loads((tmp_path / CONFIG).read_text())
    foreign["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "xlm-roberta-base"
    (tmp_path / CONFIG).write_text(json.dumps(foreign))
    with pytest.raises(ValueError, match="needs the tokenizer xlm-roberta-base"):
        load_folder(tmp_path)


def test_a_second_save_replaces_the_first_and_leaves_nothing_else(folder, make_clip):
    save_folder(make_clip(5), folder)
    assert {path.name for path in folder.iterdir()} == {CONFIG, TOKENIZER, WEIGHTS}
    weight = "towers.text_projection"
    assert torch.equal(load_folder(folder).state_dict()[weight], make_clip(5).state_dict()[weight])


@pytest.mark.parametrize("name", [CONFIG, TOKENIZER, WEIGHTS])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b"3", b"\xff\xfe", b'{"model_cfg": 3, "kind": "words"}'])
def test_a_missing_or_damaged_file_is_named_in_one_line(folder, name, content):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"\A[^\n]*{re.escape(str(folder))}[^\n]*\Z"):
        load_folder(folder)


@pytest.mark.parametrize("name", [CONFIG, TOKENIZER, WEIGHTS])
def test_a_truncated_file_is_named_in_one_line(folder, name):
    whole = (folder / name).read_bytes()
    for size in range(0, len(whole) - 1, max(1, len(whole) // 10)):
        (folder / name).write_bytes(whole[:size])
        with pytest.raises(ValueError, match=rf"\A[^\n]*{re.escape(str(folder))}[^\n]*\Z"):
            load_folder(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("model_cfg"), "KeyError 'model_cfg'"),
        (lambda c: c["model_cfg"].pop("text_cfg"), "KeyError 'text_cfg'"),
        (lambda c: c["model_cfg"].update(bogus=1), "unexpected keyword argument 'bogus'"),
        (lambda c: c["model_cfg"]["text_cfg"].update(vocab_size=99), "the tokenizer has 11 ids"),
        (lambda c: c["preprocess_cfg"].update(mean=[0.5]), "check preprocess_cfg.mean"),
        (lambda c: c["preprocess_cfg"].update(std=None), "check preprocess_cfg.std"),
        (lambda c: c["preprocess_cfg"].update(std=[0.5, 0, 0.5]), "check preprocess_cfg.std"),
    ],
)
def test_a_config_that_makes_no_model_is_refused(folder, change, words):
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))
    expected = rf"\A{re.escape(str(folder))} is not a model folder, or is damaged: .*{words}.*\Z"
    with pytest.raises(ValueError, match=expected):
        load_folder(folder)


def test_weights_of_another_architecture_are_a_table(folder):
    config = json.loads((folder / CONFIG).read_text())
    config["model_cfg"]["vision_cfg"]["layers"] = 1
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"unexpected  visual\.transformer\.resblocks\.1\."):
        load_folder(folder)


def test_a_folder_without_normalization_has_clips(folder):
    config = json.loads((folder / CONFIG).read_text())
    del config["preprocess_cfg"]
    (folder / CONFIG).write_text(json.dumps(config))
    assert load_folder(folder).mean == open_clip.OPENAI_DATASET_MEAN


@pytest.mark.parametrize("name", [CONFIG, TOKENIZER])
@pytest.mark.parametrize(
    "text", ["[" * 99999, '{"a":' * 500 + "1" + "}" * 500, '{"a": ' + "9" * 400 + "}", '{"a": NaN}']
)
def test_documents_beyond_the_bounds_are_refused_in_a_line(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(name)) as caught:
        load_folder(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_folder_without_normalization_has_that_of_its_architectures_pretrained_weights(folder, monkeypatch):
    config = json.loads((folder / CONFIG).read_text())
    del config["preprocess_cfg"]
    (folder / CONFIG).write_text(json.dumps(config))
    mobile = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    monkeypatch.setitem(factory._MODEL_CONFIGS, "MobileCLIP-tiny", config["model_cfg"])
    monkeypatch.setattr(architectures, "normalizations_of", lambda name: (mobile,) * (name == "MobileCLIP-tiny"))
    model = load_folder(folder)
    assert (model.mean, model.std) == mobile
