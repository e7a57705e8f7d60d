"""An export is complete and equal to the model after reading it back, or it does not exist."""

import errno
import json
import math
import os
import re
import zlib
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from workbench import files
from workbench.config.inheritance import TowerShape
from workbench.models import export
from workbench.models.clip import Clip
from workbench.models.configs import TABLES, tower_shape, with_shape
from workbench.models.export import (
    MismatchError,
    Writer,
    as_uniform,
    export_model,
    largest_difference,
    write_open_clip,
)
from workbench.models.folder import CONFIG, TOKENIZER, WEIGHTS, load_folder
from workbench.models.tokenizers import WordTokenizer, make_tokenizer, tokenizer_files


def test_the_largest_difference_of_either_tower_at_any_batch_size(make_clip):
    model = make_clip()

    def embed(image_BCHW, text_BL):
        found = model.embed(image_BCHW, text_BL)
        image_BD, text_BD = found.image_BD.clone(), found.text_BD.clone()
        image_BD[0, 1] -= 0.125
        text_BD[2:, 3] += 0.25
        return image_BD, text_BD

    assert largest_difference(model, embed) == pytest.approx(0.25)
    assert largest_difference(model, embed, (1, 2)) == pytest.approx(0.125)
    assert largest_difference(model, embed, (1, 3)) == pytest.approx(0.25)


@pytest.mark.parametrize("tower", [0, 1])
def test_nan_in_either_tower_is_seen_and_never_tolerated(make_clip, tmp_path, monkeypatch, tower):
    def write(model, *_):
        def embed(image_BCHW, text_BL):
            found = model.embed(image_BCHW, text_BL)
            both = found.image_BD.clone(), found.text_BD.clone()
            both[tower][0, 0] = math.nan
            return both

        return embed

    monkeypatch.setitem(export.WRITERS, "native", Writer(write, "a reader", 1.0))
    with pytest.raises(MismatchError, match=r"as a reader reads it.* by nan, more than 1"):
        export_model(make_clip(), tmp_path / "out", "native")
    assert list(tmp_path.iterdir()) == []


KINDS = ("plain", "sliced", "resnet", "bpe")


@pytest.mark.parametrize("kind", KINDS)
def test_native_comes_back_to_the_bit(make_student, tmp_path, kind):
    student = make_student(kind)
    exported = export_model(student, tmp_path / "a" / "out", "native")
    loaded = load_folder(exported.folder)
    assert exported.max_abs_difference == 0
    assert (loaded.config, loaded.tokenizer, loaded.input_spec) == (
        student.config,
        student.tokenizer,
        student.input_spec,
    )
    for name, tensor in student.towers.state_dict().items():
        assert torch.equal(loaded.towers.state_dict()[name], tensor), name
    assert exported.sizes == {name: (exported.folder / name).stat().st_size for name in (CONFIG, WEIGHTS, TOKENIZER)}
    assert exported.size_mb == sum(exported.sizes.values()) / 1e6
    assert [path.name for path in exported.folder.parent.iterdir()] == ["out"]


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])  # own folders
@given(seed=st.integers(0, 1000), sparsity=st.sampled_from([0.2, 0.5, 0.9]))
def test_any_sliced_student_comes_back(make_sliced, tmp_path, seed, sparsity):
    student = make_sliced(seed, sparsity)
    out = tmp_path / f"{seed}-{sparsity}"
    exported = export_model(student, out, "native")
    again = load_folder(out)
    assert again.config == student.config
    assert exported.sizes[WEIGHTS] < 4 * sum(p.numel() for p in student.towers.parameters()) + 6000
    files.remove(out)


@pytest.mark.parametrize("kind", ["plain", "resnet", "bpe"])
def test_open_clip_reads_what_is_uniform(make_student, tmp_path, kind):
    exported = export_model(make_student(kind), tmp_path / "out", "open_clip")
    assert exported.max_abs_difference < 1e-5


@pytest.mark.parametrize(("kind", "format"), [("sliced", "native"), ("resnet", "native"), ("plain", "open_clip")])
def test_half_precision_halves_the_weights_and_reports_the_difference(make_student, tmp_path, kind, format):
    student = make_student(kind)
    full = export_model(student, tmp_path / "full", format)
    half = export_model(student, tmp_path / "half", format, half=True)
    num_floats = sum(t.numel() for t in student.towers.state_dict().values() if t.is_floating_point())
    assert full.sizes[WEIGHTS] - half.sizes[WEIGHTS] == pytest.approx(2 * num_floats, abs=64)
    assert 1e-6 < half.max_abs_difference < 5e-3
    loaded = load_folder(half.folder).towers.state_dict()
    for name, tensor in student.towers.state_dict().items():
        assert torch.equal(loaded[name], tensor.half().float() if tensor.is_floating_point() else tensor), name
    assert {t.dtype for t in load_file(half.folder / WEIGHTS).values() if t.is_floating_point()} == {torch.float16}


def test_an_empty_folder_is_filled_and_a_taken_one_left_alone(make_clip, tmp_path):
    (tmp_path / "empty").mkdir()
    export_model(make_clip(), tmp_path / "empty", "native")
    before = (tmp_path / "empty" / WEIGHTS).read_bytes()
    with pytest.raises(ValueError, match="exists already: name another"):
        export_model(make_clip(1), tmp_path / "empty", "native")
    assert (tmp_path / "empty" / WEIGHTS).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_the_folder_one_is_in_is_not_replaced(make_clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="--out DIR"):
        export_model(make_clip(), Path(), "native")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_weights_of_a_run_that_diverged_are_refused(make_clip, tmp_path, number):
    model = make_clip()
    with torch.no_grad():
        model.towers.text_projection[0, 0] = number
    with pytest.raises(ValueError, match="text_projection are not finite: export an earlier checkpoint"):
        export_model(model, tmp_path / "out", "native")
    assert list(tmp_path.iterdir()) == []


def test_weights_too_large_for_float16_are_refused_with_half_only(make_clip, tmp_path):
    model = make_clip()
    with torch.no_grad():
        model.towers.token_embedding.weight[0, 0] = 1e5
    export_model(model, tmp_path / "full", "native")
    with pytest.raises(ValueError, match="float16 cannot hold them; drop --half"):
        export_model(model, tmp_path / "half", "native", half=True)


def test_a_full_disk_leaves_nothing(make_clip, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(files.DiskFullError):
        export_model(make_clip(), tmp_path / "out", "native")
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_read_back_is_not_kept(make_clip, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "load_folder", lambda _: make_clip(1))
    with pytest.raises(MismatchError, match="as the workbench reads it"):
        export_model(make_clip(0), tmp_path / "out", "native")
    assert list(tmp_path.iterdir()) == []


@given(
    caption=st.text() | st.lists(st.sampled_from(["a", "Red", "zebra", "ÉTÉ", "-", "7"]), max_size=12).map(" ".join),
    context_length=st.integers(2, 9),
    num_buckets=st.integers(1, 5),
)
def test_the_rule_in_words_is_the_tokenizer(caption, context_length, num_buckets):
    """tokenizer.json alone, read by someone who has no workbench."""
    tokenizer = WordTokenizer(("a", "red", "été"), context_length, num_buckets)
    document = json.loads(tokenizer_files(tokenizer, with_rule=True)["tokenizer.json"])
    words = document["words"]
    ids = [
        1 + words.index(word) if word in words else 1 + len(words) + zlib.crc32(word.encode()) % document["num_buckets"]
        for word in re.findall(r"\w+", caption.lower())[: document["context_length"] - 1]
    ]
    ids += [len(words) + document["num_buckets"] + 1]
    ids += [0] * (document["context_length"] - len(ids))
    assert tokenizer([caption])[0].tolist() == ids
    assert "crc32" in document["rule"]
    assert make_tokenizer(document) == tokenizer


def test_a_plain_tower_in_a_table_is_open_clips_own(make_clip, tokenizer, images, captions, with_table):
    plain = make_clip(3)
    config = plain.config
    for tower in ("image", "text"):
        config = with_table(config, tower)
    tabled = Clip(config, tokenizer).eval()
    tabled.towers.load_state_dict(plain.towers.state_dict())
    uniform = as_uniform(tabled)
    assert TABLES not in uniform.config
    assert uniform.config == plain.config
    image, text = images(3), tokenizer(captions(3))
    torch.testing.assert_close(uniform.encode_image(image), tabled.encode_image(image), atol=1e-6, rtol=0)
    torch.testing.assert_close(uniform.encode_text(text), tabled.encode_text(text), atol=1e-6, rtol=0)


def test_a_model_without_tables_is_taken_as_it_is(make_clip):
    model = make_clip()
    assert as_uniform(model) is model


@pytest.mark.parametrize(
    ("heads", "channels", "why"),
    [
        ((2, 1), (8, 8), "its layers have 1 to 2 heads"),
        ((2, 2), (8, 0), "its layers have 0 to 8 FFN channels"),
        ((2, 2), (0, 0), "its layers have no FFN"),
        ((1, 1), (8, 8), "1 heads of 16 in a width of 32"),
        ((0, 0), (8, 8), "0 heads of 16 in a width of 32"),
    ],
)
def test_an_odd_tower_is_refused_in_one_line(make_clip, tokenizer, tmp_path, heads, channels, why):
    shape = TowerShape(width=32, head_width=16, heads=heads, channels=channels)
    model = Clip(with_shape(make_clip().config, "image", shape), tokenizer)
    expected = rf"\Aopen_clip has no such image tower \({why}\): use --format native or onnx\Z"
    with pytest.raises(ValueError, match=expected):
        write_open_clip(model, tmp_path / "out", torch.float32)
    assert not (tmp_path / "out").exists()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layers=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=3),
    width=st.sampled_from([8, 16, 24]),
)
def test_a_shape_is_taken_or_refused_as_open_clip_can_build_it(config, tokenizer, with_table, layers, width):
    heads, channels = zip(*layers, strict=True)
    shape = TowerShape(width=width, head_width=8, heads=heads, channels=channels)
    can_be = len(set(layers)) == 1 and heads[0] * 8 == width and channels[0] > 0
    model = Clip(with_table(config, "text", shape), tokenizer)
    if can_be:
        assert tower_shape(as_uniform(model).config, "text") == shape
    else:
        with pytest.raises(ValueError, match="open_clip has no such text tower"):
            as_uniform(model)


def test_another_model_in_the_folder_is_noticed(make_clip, tmp_path, monkeypatch):
    def write_another(_: Clip, folder, dtype):
        real(make_clip(1), folder, dtype)

    real = export.write_folder
    monkeypatch.setattr(export, "write_folder", write_another)
    with pytest.raises(MismatchError, match="as open_clip reads it"):
        export_model(make_clip(0), tmp_path / "out", "open_clip")
    assert list(tmp_path.iterdir()) == []
