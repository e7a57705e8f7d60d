"""SigLIP, SigLIP 2 and MobileCLIP 2 against open_clip's own model, preprocessing and tokenizer, to the last digit."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.models.siglip_files import CAPTIONS, CONTEXT, NAMES, write_repository, write_tokenizer
from workbench.config.run import RunConfig
from workbench.data.images import evaluation_HWC
from workbench.embeddings import Resizing
from workbench.engine.build import build_cohort
from workbench.engine.loop import train
from workbench.models.architectures import normalizations_of
from workbench.models.clip import Clip
from workbench.models.export import export_model
from workbench.models.spec import load_model, spec_of_file
from workbench.models.weights import weights_sha256
from workbench.preflight import import_teacher
from workbench.randomness import derive_seed

ODD = ["", "A photo of a CAT!", "word " * 40, "a&amp;b  C,d", "Łódź, 42 %!", "<eos> </s> <pad>"]
WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture(autouse=True)
def fresh_tags():
    yield
    normalizations_of.cache_clear()


@pytest.fixture(autouse=True)
def hugging_face(monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip's HFTokenizer on transformers where it is installed, otherwise on what transformers runs inside."""
    if find_spec("transformers"):
        return

    def from_pretrained(folder: str, **_: Any) -> Any:
        backend = Tokenizer.from_file(f"{folder}/tokenizer.json")
        settings = json.loads((Path(folder) / "tokenizer_config.json").read_text())

        def call(texts: list[str], max_length: int, **_: Any) -> Any:
            rows = []
            for text in texts:
                ids = backend.encode(text).ids
                kept = ids if len(ids) <= max_length else [*ids[: max_length - 1], ids[-1]]
                pad = 1 if settings["pad_token"] == "</s>" else 0
                rows.append(kept + [pad] * (max_length - len(kept)))
            return SimpleNamespace(input_ids=torch.tensor(rows))

        return call

    fake = SimpleNamespace(AutoTokenizer=SimpleNamespace(from_pretrained=from_pretrained))
    monkeypatch.setitem(sys.modules, "transformers", fake)


@pytest.fixture(params=list(NAMES))
def released(request, tmp_path, monkeypatch) -> tuple[str, Path, torch.nn.Module]:
    """Kind, repository and open_clip's model."""
    return request.param, tmp_path / "hub", write_repository(tmp_path / "hub", request.param, monkeypatch)


@pytest.fixture
def scenes_config():
    """``scenes_config(teacher, cache)``: three steps on 16 scenes."""

    def make(teacher: str, cache: str) -> RunConfig:
        return RunConfig.model_validate(
            {
                "data": {"train": "samples:scenes", "num_pairs": 16, "views": 2, "validation": "", "test": ""},
                "student": {"model": "mini-w64"},
                "teacher": {"model": teacher, "cache": cache},
                "loss": {"clip": {}, "fd": {}, "crd": {}, "icl": {}},
                "train": {"num_steps": 3, "batch_size": 8},
            }
        )

    return make


@pytest.fixture(params=["siglip", "siglip2"])
def siglip(request, tmp_path, monkeypatch) -> tuple[str, Path, torch.nn.Module]:
    """:func:`released`, of the models with a tokenizer of Hugging Face only."""
    return request.param, tmp_path / "hub", write_repository(tmp_path / "hub", request.param, monkeypatch)


def photo(width: int, height: int) -> Image.Image:
    noise = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(width), dtype=torch.uint8)
    return Image.fromarray(noise.numpy())


def assert_agrees(model: Clip, theirs: torch.nn.Module, folder: Path) -> None:
    """Embeddings of photographs and captions, each prepared by the library's own functions, are equal."""
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    photos, captions = [photo(50, 40), photo(33, 90), photo(32, 32)], CAPTIONS + ODD
    ours = model.input_spec
    pixels = [evaluation_HWC(one, ours.image_size, *ours.resizing) for one in photos]
    image_BCHW = torch.stack([torch.from_numpy(one.copy()).permute(2, 0, 1) for one in pixels])
    with torch.no_grad():
        prepared = torch.stack([preprocess(one) for one in photos])
        tokens = tokenizer(captions)
        assert torch.equal(model.tokenizer(captions), tokens)
        # The workbench's own text blocks sum in another order than open_clip's.
        torch.testing.assert_close(model.encode_text(tokens), theirs.encode_text(tokens), atol=2e-6, rtol=2e-6)
        # Normalization is of uint8 images here and of [0, 1] there, so that its last bit may differ; all else is equal.
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (model.mean, model.std))
        assert torch.equal(((prepared * std + mean) * 255).round().to(torch.uint8), image_BCHW)
        assert torch.equal(model.encode_image(image_BCHW), theirs.encode_image(model._normalized(image_BCHW)))
        found, expected = model.encode_image(image_BCHW), theirs.encode_image(prepared)
        torch.testing.assert_close(F.normalize(found, dim=1), F.normalize(expected, dim=1), atol=2e-6, rtol=0)
    assert model.scale.item() == theirs.logit_scale.exp().item()
    assert (model.bias is None) == (theirs.logit_bias is None)
    assert model.bias is None or model.bias.item() == theirs.logit_bias.item()


def test_embeddings_are_those_of_open_clip(released):
    kind, folder, theirs = released
    for spec in (f"open_clip:{NAMES[kind]}@{folder / WEIGHTS}", str(folder)):
        assert_agrees(load_model(spec).eval(), theirs, folder)


def test_its_inputs_are_those_of_its_tag(released):
    kind, folder, _ = released
    spec = load_model(f"open_clip:{NAMES[kind]}@{folder / WEIGHTS}").input_spec
    assert spec.resizing == (
        Resizing("shortest", "bilinear") if kind == "mobileclip" else Resizing("squash", "bicubic")
    )
    assert spec.tokenize([""]).shape == (1, 77 if kind == "mobileclip" else CONTEXT)
    found = load_model(str(folder))
    assert (found.mean, found.std) == {"mobileclip": ((0.0,) * 3, (1.0,) * 3)}.get(kind, ((0.5,) * 3, (0.5,) * 3))


def test_a_tag_brings_weights_and_tokenizer_from_the_hubs_cache(siglip, monkeypatch, tmp_path):
    kind, folder, theirs = siglip
    repository = tmp_path / "cache" / f"models--timm--{NAMES[kind]}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("1" * 40)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / ("1" * 40)).symlink_to(folder)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (tag,) = open_clip.list_pretrained_tags_by_model(NAMES[kind])
    assert_agrees(load_model(f"open_clip:{NAMES[kind]}@{tag}").eval(), theirs, folder)


def test_a_saved_folder_is_one_of_open_clip(siglip, tmp_path):
    kind, folder, theirs = siglip
    model = load_model(f"open_clip:{NAMES[kind]}@{folder / WEIGHTS}").eval()
    exported = export_model(model, tmp_path / "out", "open_clip")
    assert exported.max_abs_difference < 1e-5
    again = load_model(str(tmp_path / "out")).eval()
    assert again.input_spec == model.input_spec
    assert (tmp_path / "out" / "tokenizer_config.json").exists()
    assert_agrees(again, theirs, tmp_path / "out")


def test_a_bare_file_is_identified_by_its_shapes(siglip):
    kind, folder, theirs = siglip
    assert spec_of_file(folder / WEIGHTS) == f"open_clip:{NAMES[kind]}@{folder / WEIGHTS}"
    assert_agrees(load_model(str(folder / WEIGHTS)).eval(), theirs, folder)


def test_a_run_gives_student_and_teacher_their_own_tokens_live_and_cached(siglip, scenes_config):
    _, folder, theirs = siglip
    ends = {}
    for cache in ("off", "on"):
        cohort = build_cohort({"run": scenes_config(str(folder), cache)})
        stream, teacher = cohort.stream, load_model(str(folder))
        assert (not stream.teachers) == (cache == "on")
        if cache == "off":
            batch = stream.batch(0)
            texts = [stream.dataset.text(index) for index in batch.indices]
            captions = [text.captions[derive_seed(0, "caption", text.key, 0) % len(text.captions)] for text in texts]
            assert torch.equal(batch.teachers[0].text_BL, teacher.tokenizer(captions))
            assert torch.equal(batch.student_text_BL, cohort.members[0].state.student.tokenizer(captions))
            outputs = cohort.teacher.embed(*batch.teachers[0])
            with torch.no_grad():
                expected = F.normalize(theirs.encode_text(teacher.tokenizer(captions)), dim=1)
            torch.testing.assert_close(outputs.text_BD, expected, atol=1e-6, rtol=0)
        for _ in train(cohort):
            pass
        ends[cache] = weights_sha256(cohort.members[0].state)
    assert ends["on"] == ends["off"]


def test_it_trains_with_clips_loss_and_then_without_a_gradient_for_its_bias(siglip, scenes_config):
    _, folder, _ = siglip
    changes = {"student": {"model": str(folder)}, "teacher": {}, "loss": {"clip": {}}}
    cohort = build_cohort({"run": RunConfig.parse(scenes_config("", "off").model_dump(mode="json") | changes)})
    student = cohort.members[0].state.student
    before = {name: value.clone() for name, value in student.towers.state_dict().items()}
    for _ in train(cohort):
        pass
    assert torch.equal(student.towers.logit_bias, before["logit_bias"])  # it cancels in the softmax: no weight decay
    moved = [name for name, value in student.towers.state_dict().items() if not torch.equal(value, before[name])]
    assert "logit_scale" in moved
    assert len(moved) > len(before) // 2


def test_inspect_and_import_know_it(released, workbench, tmp_path, monkeypatch):
    kind, folder, theirs = released
    result = workbench("inspect", str(folder / WEIGHTS), "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert document["model"] == f"open_clip:{NAMES[kind]}@{folder / WEIGHTS}"
    is_sigmoid = kind != "mobileclip"
    assert document["resize_mode"] == ("squash" if is_sigmoid else "shortest")
    assert document["bias"] == (pytest.approx(-12.9) if is_sigmoid else None)
    assert document["tokenizer"]["kind"] == ("huggingface" if is_sigmoid else "bpe")
    # A random model guesses: what is tested is what becomes of one that does not.
    monkeypatch.setattr(import_teacher, "CLEARLY", -1e9)
    imported = import_teacher.import_teacher(str(folder / WEIGHTS), "samples:scenes", num_pairs=40)
    assert (imported.other, imported.normalized) == (None, {})
    imported.save(tmp_path / "mine")
    record = json.loads((tmp_path / "mine" / "teacher.json").read_text())
    assert record["preprocessing"]["resize_mode"] == document["resize_mode"]
    assert_agrees(load_model(str(tmp_path / "mine")).eval(), theirs, tmp_path / "mine")


def test_a_missing_or_foreign_tokenizer_is_one_line_with_the_remedy(siglip, tmp_path):
    kind, folder, _ = siglip
    alone = tmp_path / "alone" / WEIGHTS
    alone.parent.mkdir()
    alone.symlink_to(folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"\A[^\n]*put its tokenizer\.json and tokenizer_config\.json next to[^\n]*\Z"):
        load_model(f"open_clip:{NAMES[kind]}@{alone}")
    write_tokenizer(alone.parent, "siglip" if kind == "siglip2" else "siglip2")
    with pytest.raises(ValueError, match=r"\A[^\n]*another model's[^\n]*\Z"):
        load_model(f"open_clip:{NAMES[kind]}@{alone}")
    (alone.parent / "tokenizer.json").write_text('{"model": {}}')
    with pytest.raises(ValueError, match=r"\A[^\n]*cannot use the tokenizer [^\n]*tokenizer\.json[^\n]*\Z"):
        load_model(f"open_clip:{NAMES[kind]}@{alone}")


@pytest.mark.parametrize("name", ["spiece.model", "tokenizer.model"])
def test_a_sentencepiece_model_is_refused_with_the_command_that_converts_it(siglip, tmp_path, name):
    kind, folder, _ = siglip
    (tmp_path / WEIGHTS).symlink_to(folder / WEIGHTS)
    (tmp_path / name).write_bytes(b"\x0a\x0e\x0a\x05<unk>")
    remedy = (
        rf"\A[^\n]*{name}[^\n]*write its tokenizer\.json with transformers[^\n]*from_pretrained\('{tmp_path}'\)[^\n]*\Z"
    )
    with pytest.raises(ValueError, match=remedy):
        load_model(f"open_clip:{NAMES[kind]}@{tmp_path / WEIGHTS}")
    for given in (tmp_path / name, tmp_path):
        with pytest.raises(ValueError, match=remedy):
            load_model("mini-w64", seed=0, tokenizer=str(given))
    write_tokenizer(tmp_path, kind)  # what the command leaves next to it
    assert load_model(f"open_clip:{NAMES[kind]}@{tmp_path / WEIGHTS}").tokenizer.vocab_size


def test_a_tokenizer_json_alone_pads_as_it_states(siglip, tmp_path):
    """Without tokenizer_config.json, as transformers' PreTrainedTokenizerFast."""
    kind, _, _ = siglip
    write_tokenizer(tmp_path, kind)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())["pad_token"]
    token = settings["content"] if isinstance(settings, dict) else settings
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match="no pad_token"):
        load_model("mini-w64", seed=0, tokenizer=str(tmp_path))
    backend = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    pad = backend.token_to_id(token)
    backend.enable_padding(pad_id=pad, pad_token=token)
    backend.save(str(tmp_path / "tokenizer.json"))
    student = load_model("mini-w64", seed=0, tokenizer=str(tmp_path / "tokenizer.json"))
    assert (student.tokenizer(["a"])[0, -5:] == pad).all()


@pytest.mark.parametrize("named", ["", "tokenizer.json"])  # a folder, or the file
def test_a_new_student_may_have_such_a_tokenizer(siglip, named):
    _, folder, _ = siglip
    student = load_model("mini-w64", seed=0, tokenizer=str(folder / named))
    teacher = load_model(str(folder))
    assert student.tokenizer(CAPTIONS)[:, :CONTEXT].shape == teacher.tokenizer(CAPTIONS).shape
    assert student.towers.token_embedding.weight.shape[0] == teacher.tokenizer.vocab_size


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "MobileCLIP2-S0"])
def test_the_real_sizes(name, tmp_path):
    theirs = open_clip.create_model(name).eval()
    save_file(theirs.state_dict(), tmp_path / WEIGHTS)
    if theirs.logit_bias is not None:
        vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁w{n}", -1.0) for n in range(31997))]
        tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        (tmp_path / "tokenizer_config.json").write_text('{"pad_token": "</s>"}')
    assert spec_of_file(tmp_path / WEIGHTS) == f"open_clip:{name}@{tmp_path / WEIGHTS}"
    model = load_model(str(tmp_path / WEIGHTS)).eval()
    size = model.image_size
    image_BCHW = torch.randint(0, 256, (2, 3, size, size), generator=torch.Generator().manual_seed(0)).byte()
    tokens = model.tokenizer(["w5 w31000", "w7"])
    with torch.no_grad():
        torch.testing.assert_close(model.encode_text(tokens), theirs.encode_text(tokens), atol=1e-5, rtol=1e-5)
        assert torch.equal(model.encode_image(image_BCHW), theirs.encode_image(model._normalized(image_BCHW)))
