"""Synthetic captions: read from shards, drawn with a weight, and the same wherever a view is read."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.config.run import RunConfig
from workbench.data.captions import captions_of
from workbench.data.dataset import SampleText
from workbench.data.evaluation_set import open_evaluation_set
from workbench.data.spec import open_dataset
from workbench.data.synthetic import choose_caption, with_synthetic
from workbench.engine.build import build_cohort
from workbench.engine.loop import train
from workbench.models.spec import load_model
from workbench.models.weights import weights_sha256
from workbench.randomness import derive_seed


def written(*captions: str) -> bytes:
    return json.dumps({"syn_text": captions}).encode()


@pytest.fixture
def shards(write_tar: Callable[..., Path], pairs: Callable[..., dict[str, bytes]]) -> str:
    """16 pairs, every one but the last with three synthetic captions."""
    synthetic = {f"k{n:03d}.syn.json": written(*(f"written {n} {m}" for m in range(3))) for n in range(15)}
    return str(write_tar(pairs(16, size=(60, 50)) | synthetic))


def test_both_layouts_are_read_and_what_is_unusable_is_counted(write_tar, pairs) -> None:
    members = pairs(6) | {
        "k000.syn.json": written("one", " two "),
        "k001.syn.json": json.dumps(["three", "", None, 4]).encode(),
        "k002.syn.json": b"{",
        "k003.syn.json": json.dumps({"syn_text": "five"}).encode(),
        "k004.syn.json": b"[]",
        "k004.paug.json": b"{}",
        "k004.npz": b"PK",
    }
    plain = open_dataset(str(write_tar(pairs(6), "plain/0.tar")), "train")
    dataset = open_dataset(str(write_tar(members, "more/0.tar")), "train")
    assert [text.synthetic for text in map(dataset.text, range(6))] == [("one", "two"), ("three",), (), (), (), ()]
    assert [text.captions for text in map(dataset.text, range(6))] == [plain.text(n).captions for n in range(6)]
    (note,) = (note for note in dataset.reading.notes if "left out 5 members" in note)
    assert "no captions in it" in note  # a damaged file is shown before the stored outputs
    assert (plain.synthetic_digest, with_synthetic(dataset, 0)) == ("", dataset)


@pytest.mark.parametrize("name", ["k001.npz", "k001.paug.json", "k001.pth.gz"])
def test_stored_outputs_of_datacompdr_are_left_out_with_the_reason(write_tar, pairs, name: str) -> None:
    plain = open_dataset(str(write_tar(pairs(3), "plain/0.tar")), "train")
    dataset = open_dataset(str(write_tar(pairs(3) | {name: b"PK"}, "more/0.tar")), "train")
    (note,) = dataset.reading.notes
    assert (name in note, "--cache-teacher on" in note) == (True, True)
    assert [dataset.text(n).captions for n in range(3)] == [plain.text(n).captions for n in range(3)]


def test_they_are_the_last_captions_in_training_and_absent_in_evaluation(shards: str) -> None:
    dataset = open_dataset(shards, "train")
    joined = with_synthetic(dataset, 0.5)
    assert joined.text(3).captions == ("caption 3", "written 3 0", "written 3 1", "written 3 2")
    assert (joined.text(3).num_synthetic, joined[15].num_synthetic, joined[0].image.size) == (3, 0, (60, 50))
    assert joined.fingerprint != dataset.fingerprint
    mixed = with_synthetic(open_dataset(f"{shards} + samples:scenes", "train", 32), 0.5)
    assert [mixed.text(index).num_synthetic for index in (3, 15, 16)] == [3, 0, 0]
    assert len(mixed.sources) == 2
    found = captions_of(dataset)
    assert (len(found.text_M), found.num_synthetic) == (16, 45)
    assert open_evaluation_set(shards, "validation").captions == [f"caption {n}" for n in range(16)]


def test_data_without_any_are_refused_where_they_are_asked_for() -> None:
    dataset = open_dataset("samples:scenes", "train", 16)
    with pytest.raises(ValueError, match=r"\A[^\n]*data\.synthetic_captions is 0\.5[^\n]*KEY\.syn\.json[^\n]*\Z"):
        with_synthetic(dataset, 0.5)


texts = st.builds(
    lambda key, own, written: SampleText(key, tuple("c" * (own + written)), key, None, num_synthetic=written),
    st.text(max_size=5),
    st.integers(1, 5),
    st.integers(0, 5),
)


@given(texts, st.integers(0, 9), st.integers(0, 2**31), st.floats(0, 1))
def test_a_draw_depends_on_seed_key_and_view_alone(text: SampleText, view: int, seed: int, weight: float) -> None:
    num_own = len(text.captions) - text.num_synthetic
    drawn = choose_caption(text, view, seed, weight)
    assert drawn == choose_caption(text, view, seed, weight)
    assert 0 <= drawn < len(text.captions)
    assert choose_caption(text, view, seed, 0) == derive_seed(seed, "caption", text.key, view) % num_own
    assert choose_caption(text, view, seed, 1) >= (num_own if text.num_synthetic else 0)


@pytest.mark.parametrize("weight", [0.2, 0.5, 0.9])
def test_draws_have_the_weight(weight: float) -> None:
    text = SampleText("key", ("a", "b", "x", "y", "z"), "key", None, num_synthetic=3)
    counts = torch.bincount(torch.tensor([choose_caption(text, view, 1, weight) for view in range(6000)]), minlength=5)
    shares = [(1 - weight) / 2] * 2 + [weight / 3] * 3
    for count, share in zip(counts.tolist(), shares, strict=True):
        assert abs(count - 6000 * share) < 4 * math.sqrt(6000 * share * (1 - share))


def config(shards: str, **changes: object) -> RunConfig:
    data = {"train": shards, "views": 3, "validation": "", "test": "", "synthetic_captions": 0.5}
    document = {
        "data": data | changes.pop("data", {}),
        "student": {"model": "mini-w64"},
        "teacher": {"model": "sample:scenes", **changes},
        "loss": {"clip": {}, "crd": {}},
        "train": {"num_steps": 5, "batch_size": 8},
    }
    return RunConfig.model_validate(document)


@pytest.mark.parametrize("prepare", ["off", "pixels", "views"])
def test_batches_have_the_drawn_captions_from_every_store(shards: str, prepare: str) -> None:
    cohort = build_cohort({"run": config(shards, data={"prepare": prepare})})
    tokenize, dataset = cohort.members[0].state.student.tokenizer, with_synthetic(open_dataset(shards, "train"), 0.5)
    kinds = set()
    for step in range(4):
        batch = cohort.stream.batch(step)
        drawn = []
        for index, view in zip(batch.indices, batch.views, strict=True):
            text = dataset.text(index)
            caption = choose_caption(text, view, 0, 0.5)
            kinds.add(caption > 0)
            drawn.append(text.captions[caption])
        assert torch.equal(batch.student_text_BL, tokenize(drawn))
    assert kinds == {True, False}


def test_a_cached_teacher_knows_the_caption_of_every_view(shards: str) -> None:
    ends, folders = {}, {}
    for weight, cache in ((0.5, "off"), (0.5, "on"), (1.0, "on")):
        cohort = build_cohort({"run": config(shards, cache=cache, data={"synthetic_captions": weight})})
        for _ in train(cohort):
            pass
        ends[weight, cache] = weights_sha256(cohort.members[0].state)
        folders[weight] = cohort.cached.folder if cohort.cached else None
        if cohort.cached:
            teacher = load_model("sample:scenes").eval()
            text = with_synthetic(open_dataset(shards, "train"), weight).text(2)
            rows = cohort.cached.embeddings(torch.tensor([6, 7, 8]), cohort.teacher.scale)
            drawn = [text.captions[choose_caption(text, view, 0, weight)] for view in range(3)]
            with torch.no_grad():
                expected = torch.nn.functional.normalize(teacher.encode_text(teacher.tokenizer(drawn)), dim=1)
            torch.testing.assert_close(rows.text_BD, expected, atol=1e-6, rtol=0)
    assert ends[0.5, "on"] == ends[0.5, "off"] != ends[1.0, "on"]
    assert folders[0.5] != folders[1.0]
