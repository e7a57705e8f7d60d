"""Every form of model SPEC, and errors for invalid ones."""

import json
import re
import urllib.error
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip import factory
from safetensors.torch import save_file

from workbench.models.architectures import WeightsWarning, normalizations_of
from workbench.models.clip import Clip
from workbench.models.folder import CONFIG, WEIGHTS, config_files, save_folder
from workbench.models.spec import load_model, spec_of_file
from workbench.models.tokenizers import BytePairTokenizer, named_tokenizer
from workbench.resources import find_resource
from workbench.runs.checkpoints import write_checkpoint
from workbench.runs.directory import create_run

ARCHITECTURE = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}
OFFLINE = urllib.error.URLError("[Errno -2] Name or service not known\nand a second line")


def same_weights(first, second):
    mine, other = first.towers.state_dict(), second.towers.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)


@pytest.fixture
def tiny(monkeypatch):
    """A small architecture among open_clip's own; returns its name."""
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-tiny-8", ARCHITECTURE)
    return "ViT-tiny-8"


@pytest.fixture
def config_file(tmp_path):
    """``config_file(**changes)``: the small architecture in a file."""

    def write(**changes):
        path = tmp_path / "tiny.json"
        path.write_text(json.dumps(ARCHITECTURE | changes))
        return path

    return write


@pytest.fixture
def papers_file(tmp_path):
    """``papers_file(seed)``: the small architecture's weights, wrapped as the papers' are, and their model."""

    def write(seed):
        torch.manual_seed(seed)
        reference = open_clip.CLIP(**ARCHITECTURE).eval()
        path = tmp_path / "epoch_32.pt"
        torch.save({"epoch": 32, "state_dict": {f"module.{k}": v for k, v in reference.state_dict().items()}}, path)
        return path, reference

    return write


def refused(spec, message, **options):
    with pytest.raises(ValueError, match=rf"\A{message}\Z"):
        load_model(spec, **options)


@pytest.mark.parametrize(("name", "width"), [("mini-w64", 64), ("mini-w96", 96), ("mini-w128", 128)])
def test_a_built_in_size_with_the_words_of_the_scenes(name, width):
    model = load_model(name, seed=3)
    assert model.towers.visual.conv1.weight.shape == (width, 3, 8, 8)
    assert model.tokenizer == named_tokenizer("words:scenes", 20)
    assert (model.width, model.input_spec.image_size) == (512, 48)
    assert same_weights(model, load_model(name, seed=3))
    assert not same_weights(model, load_model(name, seed=4))


@pytest.mark.parametrize("name", ["words:emoji", "bpe"])
def test_another_tokenizer_sizes_the_vocabulary(name):
    model = load_model("mini-w64", seed=0, tokenizer=name)
    assert model.tokenizer == named_tokenizer(name, 20)
    assert model.towers.token_embedding.weight.shape == (model.tokenizer.vocab_size, 64)


def test_an_architecture_of_open_clips(tiny):
    model = load_model(f"open_clip:{tiny}", seed=2)
    assert model.config == ARCHITECTURE
    assert model.tokenizer == BytePairTokenizer(77)
    assert load_model(f"open_clip:{tiny}", seed=2, tokenizer="words:scenes").tokenizer.vocab_size < 200
    assert factory._MODEL_CONFIGS[tiny]["text_cfg"]["vocab_size"] == 49408


@torch.no_grad()
@pytest.mark.usefixtures("no_fast_path")
def test_an_open_clip_name_with_a_file_wrapped_as_the_papers_wrap_theirs(tiny, papers_file, images):
    path, reference = papers_file(5)
    model = load_model(f"open_clip:{tiny}@{path}").eval()
    captions = ["a red square", "x"]
    image, text = images(2), open_clip.get_tokenizer("ViT-B-32")(captions)
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1) * 255
        for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    assert torch.equal(model.tokenizer(captions), text)
    assert torch.equal(model.encode_image(image), reference.encode_image((image - mean) / std))
    assert torch.equal(model.encode_text(text), reference.encode_text(text))
    assert model.scale == reference.logit_scale.exp()


def test_open_clips_spelling_with_a_slash_and_safetensors(tiny, papers_file, tmp_path):
    path, reference = papers_file(6)
    save_file(reference.state_dict(), tmp_path / "w.safetensors")
    first = load_model(f"open_clip:{tiny.replace('-8', '/8')}@{tmp_path / 'w.safetensors'}")
    assert same_weights(first, load_model(f"open_clip:{tiny}@{path}", seed=99))


def test_weights_of_another_architecture_are_a_table(tiny, tmp_path):
    torch.save({"module.visual.proj": torch.ones(2, 2)}, tmp_path / "w.pt")
    with pytest.raises(
        ValueError, match=r"w\.pt does not fit the model \(0 of 38 .*\):\n  reshaped    visual\.proj: model \(32, 16\)"
    ):
        load_model(f"open_clip:{tiny}@{tmp_path / 'w.pt'}")


def test_the_real_sizes_are_known_too():
    refused("open_clip:ViT-T-16@gone.pt", r"no weights at gone\.pt: check the path")


def test_a_config_file_without_its_kind_is_not_taken_for_weights(config_file):
    path = config_file()
    refused(str(path), rf"unknown model '{path}': did you mean 'config:{path}'\? .*", seed=1)


def test_a_config_file(config_file):
    model = load_model(f"config:{config_file()}", seed=1)
    assert (model.config, model.tokenizer) == (ARCHITECTURE, BytePairTokenizer(77))
    named = load_model(f"config:{config_file(tokenizer='words:scenes')}", seed=1)
    assert named.tokenizer == named_tokenizer("words:scenes", 77)
    inside = load_model(f"config:{config_file(model_cfg=ARCHITECTURE)}", seed=1)
    assert same_weights(inside, model)


@torch.no_grad()
def test_a_config_file_with_its_weights(config_file, papers_file, images):
    path, reference = papers_file(4)
    spec = f"config:{config_file()}@{path}"
    model = load_model(spec).eval()
    assert model.config == ARCHITECTURE
    assert all(torch.equal(model.towers.state_dict()[name], value) for name, value in reference.state_dict().items())
    remark = f"{re.escape(spec)} comes with its weights and tokenizer: drop student.tokenizer"
    refused(spec, remark, tokenizer="bpe")
    refused(f"config:{config_file()}@gone.pt", r"no weights at gone\.pt: check the path")
    other = config_file(embed_dim=8)
    with pytest.raises(ValueError, match=r"epoch_32\.pt does not fit the model .*:\n  reshaped"):
        load_model(f"config:{other}@{path}")
    normalized = config_file(model_cfg=ARCHITECTURE, preprocess_cfg={"mean": [0.5] * 3, "std": [0.25] * 3})
    image = images(2)
    model = load_model(f"config:{normalized}@{path}").eval()
    torch.testing.assert_close(model.encode_image(image), reference.encode_image((image / 255 - 0.5) / 0.25))
    assert load_model(f"config:{normalized}", seed=1).mean == model.mean


def test_a_config_file_may_have_an_at_in_its_name(config_file, tmp_path):
    odd = config_file().rename(tmp_path / "me@home.json")
    assert load_model(f"config:{odd}", seed=1).config == ARCHITECTURE


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "cannot read .*which has embed_dim, vision_cfg, text_cfg"),
        ("{", "cannot read .*which has embed_dim, vision_cfg, text_cfg"),
        ("[]", "which has embed_dim, vision_cfg, text_cfg"),
        ("{}", "which has embed_dim, vision_cfg, text_cfg"),
        ('{"model_cfg": 3}', "which has embed_dim, vision_cfg, text_cfg"),
        ('{"embed_dim": 4, "vision_cfg": 3, "text_cfg": {}}', "which has embed_dim, vision_cfg, text_cfg"),
        ('{"embed_dim": 4, "vision_cfg": {"bogus": 1}, "text_cfg": {}}', "open_clip cannot build"),
    ],
)
def test_a_config_file_that_holds_no_model_is_refused(tmp_path, content, words):
    (tmp_path / "c.json").write_text(content)
    refused(f"config:{tmp_path / 'c.json'}", f".*{words}.*", seed=0)
    refused(f"config:{tmp_path / 'gone.json'}", r"cannot read the model config .*gone\.json: No such .*", seed=0)


def test_a_model_folder(tmp_path, make_clip):
    model = make_clip(3)
    save_folder(model, tmp_path / "model")
    assert same_weights(load_model(str(tmp_path / "model")), model)


def test_a_runs_newest_checkpoint(tmp_path, make_clip):
    run = create_run(tmp_path, "run-1", "")
    refused(
        "run:run-1",
        "run run-1 has no checkpoint yet: wait for one, or `workbench runs resume run-1`",
        runs_dir=tmp_path,
    )
    for step in (1, 2):
        save_folder(make_clip(step), tmp_path / "model")
        weights = (tmp_path / "model" / WEIGHTS).read_bytes()
        checkpoint = write_checkpoint(run, step, {**config_files(make_clip(step)), WEIGHTS: weights}, {})
    assert same_weights(load_model("run:run-1", runs_dir=tmp_path), make_clip(2))
    assert same_weights(load_model(f"run:{run.path}"), make_clip(2))
    (checkpoint / CONFIG).write_text("torn")
    assert same_weights(load_model("run:run-1", runs_dir=tmp_path), make_clip(1))
    refused("run:run-2", r"unknown run 'run-2': did you mean 'run-1'\?", runs_dir=tmp_path)


@pytest.mark.parametrize("name", ["scenes", "emoji"])
def test_a_sample_teacher(name):
    folder = find_resource(f"data_samples/{name}/teacher")
    assert folder is not None
    model = load_model(f"sample:{name}")
    assert isinstance(model, Clip)
    assert model.tokenizer == named_tokenizer(f"words:{name}", model.tokenizer.context_length)
    assert model.width == 512
    assert sum(path.stat().st_size for path in Path(folder).iterdir()) <= 3e6


def test_no_weights_and_no_seed_is_refused(config_file, tiny):
    for spec in ("mini-w64", f"open_clip:{tiny}", f"config:{config_file()}"):
        refused(spec, f"{re.escape(spec)} names an architecture without weights: name sample:scenes, .*")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mini-w644", r"unknown model 'mini-w644': did you mean 'mini-w64'\? \(a model is a built-in size, .*\)"),
        ("ViT-B-16", r"unknown model 'ViT-B-16': did you mean 'open_clip:ViT-B-16'\? \(a model is .*\)"),
        ("RN50", r"unknown model 'RN50': choose one of: open_clip:RN50 \(a model is .*\)"),
        ("ViT-B-16@w.pt", r"unknown model 'ViT-B-16@w.pt': did you mean 'open_clip:ViT-B-16@w.pt'\? .*"),
        ("ViT-B/16@laion400m_e32", r"unknown model .*: did you mean 'open_clip:ViT-B/16@laion400m_e32'\? .*"),
        ("mini-w64@w.pt", r"unknown model .*: did you mean 'open_clip:mini-w64@w.pt'\? .*"),
        ("mine.json@w.pt", r"unknown model .*: did you mean 'config:mine.json@w.pt'\? .*"),
        ("", r"unknown model '': choose one of: .*mini-w64.*"),
        ("nowhere/at/all", r"unknown model 'nowhere/at/all': .*"),
        ("openclip:ViT-B-16", r"unknown model 'openclip:ViT-B-16': .* \(a model is .*open_clip:NAME.*\)"),
        ("open_clip:ViT-B-61", r"unknown open_clip model 'ViT-B-61': did you mean 'ViT-B-16'\?"),
        ("open_clip:ViT-T-61", r"unknown open_clip model 'ViT-T-61': did you mean 'ViT-T-16'\?"),
        ("open_clip:hf-hub:laion/CLIP-ViT-B-32", r"unknown open_clip model 'hf-hub:laion-CLIP-ViT-B-32': .*"),
        ("sample:zzz", r"unknown sample model 'zzz': .*"),
        (
            "open_clip:ViT-B-32@laion400m_e33",
            r"unknown pretrained tag of ViT-B-32 \(or weights file\) 'laion400m_e33': did you mean 'laion400m_e3.'\?",
        ),
    ],
)
def test_an_unknown_name_offers_the_nearest(spec, message):
    refused(spec, message, seed=0)


@pytest.mark.parametrize("error", [OFFLINE, RuntimeError(), FileNotFoundError(2, "No such file")])
def test_a_pretrained_tag_offline_is_one_line_with_the_remedy(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(open_clip, "download_pretrained", fail)
    remedy = "name a local file, open_clip:ViT-B-32@/path/to/weights"
    refused("open_clip:ViT-B-32@openai", rf"cannot download ViT-B-32@openai \(.+\): {remedy}")


@torch.no_grad()
def test_a_pretrained_tag_brings_its_normalization_and_activation(monkeypatch, tiny, papers_file, images):
    path, _ = papers_file(7)
    tag = {"hf_hub": "x/y", "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "quick_gelu": True}
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda name: ["here"] if name == tiny else [])
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda *_: tag)
    monkeypatch.setattr(open_clip, "download_pretrained", lambda given: str(path) if given is tag else "")
    model = load_model(f"open_clip:{tiny}@here").eval()
    reference = open_clip.CLIP(**ARCHITECTURE, quick_gelu=True).eval()
    reference.load_state_dict(model.towers.state_dict())
    image = images(2)
    torch.testing.assert_close(model.encode_image(image), reference.encode_image((image / 255 - 0.5) / 0.25))
    assert not torch.allclose(load_model(f"open_clip:{tiny}@{path}").encode_image(image), model.encode_image(image))


def test_a_tokenizer_for_given_weights_is_refused(tmp_path, tiny, papers_file, make_clip):
    path, _ = papers_file(1)
    save_folder(make_clip(), tmp_path / "model")
    for spec in (f"open_clip:{tiny}@{path}", str(tmp_path / "model")):
        message = f"{re.escape(spec)} comes with its weights and tokenizer: drop student.tokenizer"
        refused(spec, message, tokenizer="bpe", seed=0)


def test_an_unknown_tokenizer_offers_the_nearest():
    refused(
        "mini-w64", r"unknown tokenizer 'words:scene': did you mean 'words:scenes'\?", seed=0, tokenizer="words:scene"
    )


@pytest.mark.parametrize("spec", ["open_clip:ViT-B-16-SigLIP", "open_clip:ViT-H-14-CLIPA"])
def test_a_student_without_its_tokenizer_is_refused_before_anything_is_built(spec):
    refused(spec, f"{spec}: it needs the tokenizer .*; or name another with student.tokenizer", seed=0)


@pytest.mark.slow
@torch.no_grad()
def test_a_real_checkpoint_of_vit_b_16(tmp_path, images):
    torch.manual_seed(0)
    reference = open_clip.create_model("ViT-B-16").eval()
    path = tmp_path / "ViT-B-16.pt"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in reference.state_dict().items()}}, path)
    model = load_model(f"open_clip:ViT-B-16@{path}").eval()
    image, text = images(2, size=224), open_clip.get_tokenizer("ViT-B-16")(["a cat", "two dogs"])
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1)
        for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    expected = reference.encode_image((image / 255 - mean) / std)
    torch.testing.assert_close(model.encode_image(image), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(model.encode_text(text), reference.encode_text(text))
    assert model.input_spec.image_size == 224


def test_a_bare_weights_file_is_identified_by_its_shapes(tiny, papers_file, monkeypatch):
    path, _ = papers_file(7)
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-tiny-8-quickgelu", ARCHITECTURE | {"quick_gelu": True})
    assert spec_of_file(path) == f"open_clip:{tiny}@{path}"
    with pytest.warns(WeightsWarning, match="does not tell its activation"):
        assert not load_model(str(path)).config.get("quick_gelu")
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-other-8", ARCHITECTURE)
    with pytest.raises(ValueError, match=rf"fit several architectures: name one, .*{tiny}@.* or .*ViT-other-8@"):
        spec_of_file(path)


def test_weights_of_another_tokenizer_in_a_built_in_size_name_the_remedy(tmp_path):
    save_file(load_model("mini-w64", seed=0, tokenizer="bpe").towers.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(
        ValueError, match=r"reshaped .*\n  it has another tokenizer: name the config .*config:FILE\.json@"
    ):
        load_model(f"open_clip:mini-w64@{tmp_path / 'w.safetensors'}")


def test_a_file_of_no_known_shapes_is_refused(tmp_path):
    save_file({"weight": torch.ones(3)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"the shapes in .* are those of no architecture known here"):
        spec_of_file(tmp_path / "w.safetensors")


def test_a_file_of_another_architecture_names_its_own(tiny, papers_file):
    path, _ = papers_file(7)
    with pytest.raises(ValueError, match=f"\n  the file's shapes are those of open_clip:{tiny}$"):
        load_model(f"open_clip:ViT-T-16@{path}")


def test_openais_constants_and_a_scale_of_shape_1_load(tiny, papers_file, tmp_path):
    _, reference = papers_file(8)
    weights = reference.state_dict()
    extra = {
        "input_resolution": torch.tensor(16),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49408),
    }
    weights |= extra | {"attn_mask": torch.zeros(77, 77), "logit_scale": weights["logit_scale"].reshape(1)}
    torch.save(weights, tmp_path / "openai.pt")
    model = load_model(f"open_clip:{tiny}@{tmp_path / 'openai.pt'}")
    assert torch.equal(model.towers.state_dict()["visual.proj"], reference.state_dict()["visual.proj"])
    assert model.scale == reference.logit_scale.exp()


def test_another_tokenizer_is_only_named_where_the_token_table_differs(tiny, papers_file, tmp_path):
    _, reference = papers_file(8)
    torch.save(reference.state_dict() | {"odd": torch.ones(2)}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="does not fit") as refusal:
        load_model(f"open_clip:{tiny}@{tmp_path / 'w.pt'}")
    assert str(refusal.value).splitlines()[1:] == ["  unexpected  odd"]
    torch.save(reference.state_dict() | {"visual.proj": torch.full((32, 16), torch.nan)}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"\A[^\n]*NaN or infinity in visual\.proj[^\n]*\Z"):
        load_model(f"open_clip:{tiny}@{tmp_path / 'w.pt'}")


@pytest.mark.parametrize("name", ["coca_ViT-B-32", "roberta-ViT-B-32"])
def test_what_cannot_be_built_is_refused_before_it_is_downloaded(monkeypatch, name):
    monkeypatch.setattr(open_clip, "download_pretrained", lambda *_: pytest.fail("downloaded"))
    tag = open_clip.list_pretrained_tags_by_model(name)[0]
    with pytest.raises(ValueError, match=r"multimodal_cfg.*choose a CLIP|is not supported"):
        load_model(f"open_clip:{name}@{tag}")


def with_tags(monkeypatch, name, *means):
    """Pretrained tags of an architecture, each with another mean."""
    tags = {f"tag{number}": {"mean": (mean,) * 3, "std": (0.5,) * 3} for number, mean in enumerate(means)}
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda one: list(tags) if one == name else [])
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda _, tag: tags[tag])
    normalizations_of.cache_clear()


@pytest.fixture(autouse=True)
def fresh_tags():
    yield
    normalizations_of.cache_clear()


def test_weights_by_file_have_the_mean_and_std_of_their_architectures_tags(monkeypatch, tiny, papers_file, config_file):
    path, _ = papers_file(9)
    with_tags(monkeypatch, tiny, 0.25, 0.25)
    for spec in (f"open_clip:{tiny}@{path}", f"config:{config_file(quick_gelu=True)}@{path}"):
        model = load_model(spec)
        assert (model.mean, model.std) == ((0.25,) * 3, (0.5,) * 3)
    given = config_file(model_cfg=ARCHITECTURE, preprocess_cfg={"mean": [0.5] * 3, "std": [0.25] * 3})
    assert load_model(f"config:{given}@{path}").mean == (0.5,) * 3


def test_where_an_architectures_tags_disagree_openais_is_taken_and_the_setting_named(monkeypatch, tiny, papers_file):
    path, _ = papers_file(9)
    with_tags(monkeypatch, tiny, 0.25, 0.5)
    with pytest.warns(WeightsWarning, match=r"mean 0\.25 .* mean 0\.5 .*teacher import.*preprocess_cfg\.mean"):
        model = load_model(f"open_clip:{tiny}@{path}")
    assert model.mean == open_clip.OPENAI_DATASET_MEAN
