"""A prepared run has the same batches as a live one; stale, damaged and unfinished stores are never used."""

import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.data.batches import BatchStream
from workbench.data.cached import prepare as preparing
from workbench.data.cached import writer
from workbench.data.cached.prepare import Cached, CachePolicy, Prepare, cached, prepare
from workbench.data.cached.store import (
    IMAGES,
    INDEX,
    MANIFEST,
    STORES,
    TEXTS,
    CroppedDataset,
    Manifest,
    PreparedDataset,
)
from workbench.data.cached.writer import estimate_store
from workbench.data.evaluation_set import open_evaluation_set
from workbench.data.images import Scaled
from workbench.data.spec import open_dataset
from workbench.embeddings import Batch, InputSpec
from workbench.files import temporary_path
from workbench.models.tokenizers import WordTokenizer

Pairs = Callable[..., dict[str, bytes]]
WriteTar = Callable[..., Path]
WriteImages = Callable[..., list[str]]

FORM = InputSpec(16, WordTokenizer(("caption", "photo"), 5), "five words")
TEACHER = InputSpec(24, WordTokenizer(("caption", "of"), 7), "seven words")


@pytest.fixture
def specs(
    tmp_path: Path, write_tar: WriteTar, pairs: Pairs, write_images: WriteImages, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Data of every form, each with an image that cannot be used, seen from the test's folder."""
    monkeypatch.chdir(tmp_path)
    write_tar(pairs(21, size=(48, 30)) | {"k004.jpg": b"<html>"}, "a.tar")
    write_tar(pairs(13, start=50) | {"k053.png": b""}, "b.tar")
    (tmp_path / "b.tar").rename(tmp_path / "c.tar")
    names = write_images(20, size=(64, 45))
    (tmp_path / names[3]).unlink()
    (tmp_path / "list.csv").write_text("filepath,title\n" + "".join(f"{name},photo of {name}\n" for name in names))
    write_images(9, "classes/dog")
    write_images(11, "classes/grey_cat", start=20)
    (tmp_path / "classes/dog/k001.jpg").write_bytes(b"\xff\xd8\xff")
    images = [{"id": number, "file_name": Path(name).name} for number, name in enumerate(names)]
    notes = [{"image_id": number % 20, "caption": f"caption {number}"} for number in range(40)]
    (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": notes}))
    return {
        "shards": "a.tar",
        "csv": "list.csv",
        "coco": "coco:coco.json@images",
        "folder": "folder:classes",
        "samples": "samples:scenes",
        "mixture": "a.tar*2 + list.csv*1 + folder:classes*1",
    }


def opened(spec: str, policy: CachePolicy, num_pairs: int = 0) -> Cached:
    return cached(open_dataset(spec, "train", num_pairs), policy)


def batches(spec: str, policy: CachePolicy, num_workers: int = 0, num_steps: int = 8) -> list[Batch]:
    """Some epochs of a dataset, with its unusable images replaced."""
    dataset = opened(spec, policy, 20 if spec.startswith("samples") else 0).dataset
    stream = BatchStream(dataset, FORM, (TEACHER,), batch_size=8, seed=5, views=3, num_workers=num_workers)
    return list(stream.batches(0, num_steps))


def assert_same(one: list[Batch], other: list[Batch], *, same_lines: bool = True) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        for name, value in vars(left).items():
            found = getattr(right, name)
            if isinstance(value, Tensor):
                assert value.dtype == found.dtype
                assert torch.equal(value, found), name
            elif name == "teachers":
                for inputs, others in zip(value, found, strict=True):
                    assert all(torch.equal(*pair) for pair in zip(inputs, others, strict=True)), name
            elif name == "replaced" and not same_lines:
                assert [row.reason for row in value] == [row.reason for row in found]
            else:
                assert value == found, name


@pytest.mark.parametrize("form", ["shards", "csv", "coco", "folder", "samples", "mixture"])
def test_batches_equal_live_decoding(specs: dict[str, str], form: str) -> None:
    live = batches(specs[form], CachePolicy())
    assert form == "samples" or any(batch.replaced for batch in live)
    kinds: tuple[Prepare, ...] = ("pixels", "jpeg")
    for kind in kinds:
        for forms in ((), (FORM, TEACHER)):  # captions tokenized as they come, and once for all
            policy = CachePolicy(kind, input_specs=forms, num_reads=10**6)
            assert_same(live, batches(specs[form], policy), same_lines=kind == "pixels")


@pytest.mark.parametrize("form", ["shards", "csv", "coco", "folder", "samples", "mixture"])
def test_cached_crops_equal_live_ones(specs: dict[str, str], form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    live = batches(specs[form], CachePolicy())
    batches(specs[form], views_of(3))  # with the store in the making
    with monkeypatch.context() as patch:
        for source in ("sources.files", "sources.tar", "cached.store"):
            patch.setattr(f"workbench.data.{source}.decode_image", None)  # nothing is decoded
        assert_same(live, batches(specs[form], views_of(3)))
    assert {one.manifest.source.kind for one in STORES.entries()} == {"views"}
    assert len(STORES.entries()) == 2  # one of each image size, also of a mixture


def views_of(num_views: int, prepare: Prepare = "views", *, num_reads: int = 10**6, seed: int = 5) -> CachePolicy:
    """The policy of a run with fixed views; ``batches`` has three with the data seed 5."""
    return CachePolicy(prepare, num_reads=num_reads, input_specs=(FORM, TEACHER), num_views=num_views, seed=seed)


@pytest.mark.parametrize("form", ["shards", "mixture"])
def test_windows_are_those_of_the_live_data(specs: dict[str, str], form: str) -> None:
    def order(policy: CachePolicy) -> list[tuple[str, ...]]:
        stream = BatchStream(opened(specs[form], policy).dataset, FORM, (), batch_size=8, seed=5, views=3, window=6)
        return [batch.keys for batch in stream.batches(0, 5)]

    live = order(CachePolicy())
    assert order(CachePolicy("pixels")) == order(CachePolicy("jpeg", working_size=28)) == live
    assert order(views_of(3)) == live


def test_crops_at_a_working_size_come_from_scaled_images(specs: dict[str, str]) -> None:
    live = batches(specs["mixture"], CachePolicy(working_size=28))
    assert_same(live, batches(specs["mixture"], replace(views_of(3), working_size=28)))
    assert_same(batches(specs["mixture"], CachePolicy()), batches(specs["mixture"], views_of(3)))


def test_every_view_comes_from_the_store(specs: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stream(policy: CachePolicy) -> BatchStream:
        return BatchStream(opened(specs["shards"], policy).dataset, TEACHER, (), batch_size=8, seed=5, views=3)

    images_KCHW, text_KL = stream(CachePolicy()).every_view(6)
    cropped = stream(views_of(3))
    monkeypatch.setattr("workbench.data.sources.tar.decode_image", None)
    found_KCHW, found_KL = cropped.every_view(6)
    assert torch.equal(found_KCHW, images_KCHW)
    assert torch.equal(found_KL, text_KL)
    assert images_KCHW.shape == (3, 3, 24, 24)


def kinds() -> list[str]:
    return sorted(one.manifest.source.kind for one in STORES.entries())


def test_auto_caches_crops_that_are_read_more_than_once(specs: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def is_cropped(num_reads: int, **options: Any) -> bool:
        dataset, notes = opened(specs["csv"], views_of(3, "auto", num_reads=num_reads, **options))
        assert notes == []
        assert dataset.fingerprint == opened(specs["csv"], CachePolicy()).dataset.fingerprint
        assert dataset.stamp() == opened(specs["csv"], CachePolicy()).dataset.stamp()
        return isinstance(dataset, CroppedDataset)

    assert not is_cropped(20)
    assert kinds() == []
    assert not is_cropped(60)  # each view once: pixels save as much, and serve other seeds
    assert kinds() == ["pixels"]
    monkeypatch.setattr("workbench.data.sources.files.decode_image", None)  # crops are made of the stored pixels
    assert is_cropped(61)
    assert kinds() == ["pixels", "views", "views"]
    assert is_cropped(1)  # there they are
    assert not is_cropped(1, seed=6)
    assert is_cropped(61, seed=6)
    assert kinds() == ["pixels", *["views"] * 4]
    assert not isinstance(opened(specs["csv"], views_of(3, "pixels")).dataset, CroppedDataset)


def test_auto_caches_no_crops_beyond_its_limit(specs: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    needed = [estimate_store(open_dataset(specs["csv"], "train"), views).size_bytes for views in views_of(9).views]
    assert needed[0] == pytest.approx(20 * 9 * 16 * 16 * 3, rel=0.2)
    monkeypatch.setattr(preparing, "AUTO_BYTES", sum(needed) - 1)
    opened(specs["csv"], views_of(9, "auto"))
    assert kinds() == ["pixels"]
    monkeypatch.setattr(preparing, "AUTO_BYTES", sum(needed))
    opened(specs["csv"], views_of(9, "auto"))
    assert kinds() == ["pixels", "views", "views"]


def test_changed_data_have_new_crops(specs: dict[str, str], tmp_path: Path) -> None:
    opened(specs["csv"], views_of(3))
    ids = {one.manifest.id for one in STORES.entries()}
    shutil.copy(tmp_path / "images/k009.jpg", tmp_path / "images/k008.jpg")
    assert_same(batches(specs["csv"], CachePolicy()), batches(specs["csv"], views_of(3)))
    assert len(STORES.entries()) == 2
    assert ids.isdisjoint(one.manifest.id for one in STORES.entries())


@pytest.mark.parametrize("kind", ["pixels", "jpeg", "views"])
def test_workers_give_the_same_batches(specs: dict[str, str], kind: Prepare) -> None:
    policy = replace(views_of(3), prepare=kind)
    live = batches(specs["mixture"], CachePolicy(), num_steps=6)
    assert_same(live, batches(specs["mixture"], policy, num_workers=2, num_steps=6), same_lines=kind == "pixels")


@pytest.mark.parametrize("kind", ["pixels", "jpeg"])
def test_a_working_size_is_the_same_live_and_prepared(specs: dict[str, str], kind: Prepare) -> None:
    live = batches(specs["mixture"], CachePolicy(working_size=28))
    assert_same(live, batches(specs["mixture"], CachePolicy(kind, working_size=28)), same_lines=kind == "pixels")
    assert not torch.equal(live[0].student_image_BCHW, batches(specs["mixture"], CachePolicy())[0].student_image_BCHW)


def test_images_up_to_the_working_size_are_unchanged(specs: dict[str, str]) -> None:
    assert_same(
        batches(specs["shards"], CachePolicy()), batches(specs["shards"], CachePolicy("pixels", working_size=32))
    )
    dataset = open_dataset("list.csv", "train")
    assert Scaled(dataset, 30)[0].image.size == (43, 30)  # 64 * 30 / 45 = 42.7
    assert Scaled(dataset, 30).fingerprint != dataset.fingerprint


def test_a_working_size_below_the_models_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data.working_size=20 is less than the 24 px input of a model.*set it to"):
        CachePolicy(working_size=20, input_specs=(FORM, TEACHER))


def test_evaluation_reads_the_store(specs: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    live = open_evaluation_set(specs["folder"], "test")
    open_evaluation_set(specs["folder"], "test", prepare="pixels")
    with monkeypatch.context() as patch:
        patch.setattr("workbench.data.sources.files.decode_image", None)  # nothing is decoded
        prepared = open_evaluation_set(specs["folder"], "test", prepare="auto")
        images = torch.cat(list(prepared.image_chunks(16)))
    assert torch.equal(images, torch.cat(list(live.image_chunks(16))))
    assert len(images) == 19
    for name in ("captions", "image_group_N", "caption_group_M", "classes_N", "task", "note", "fingerprint"):
        assert getattr(prepared, name) == getattr(live, name), name


def made(spec: str, kind: Prepare = "pixels") -> PreparedDataset:
    dataset = opened(spec, CachePolicy(kind)).dataset
    assert isinstance(dataset, PreparedDataset)
    return dataset


def test_a_store_is_made_once(specs: dict[str, str]) -> None:
    ids = {made(specs["csv"]).store.manifest.id for _ in range(3)}
    assert len(ids) == 1
    manifest = made(specs["csv"]).store.manifest
    assert manifest.num_pairs == manifest.num_captions == 20
    assert [reason for reason, _ in manifest.unusable.values()] == ["missing file"]
    assert manifest.sizes[IMAGES] == 19 * 64 * 45 * 3


def test_an_image_that_changed_makes_a_store_stale(specs: dict[str, str], tmp_path: Path) -> None:
    before = made(specs["csv"])
    other = (tmp_path / "images/k009.jpg").read_bytes()
    (tmp_path / "images/k008.jpg").write_bytes(other)
    after = made(specs["csv"])
    assert after.store.manifest.id != before.store.manifest.id
    assert after[8].image.tobytes() == after[9].image.tobytes() != before[8].image.tobytes()


def test_an_image_that_is_readable_again_is_used(specs: dict[str, str], tmp_path: Path) -> None:
    assert 3 in made(specs["csv"]).store.manifest.unusable
    shutil.copy(tmp_path / "images/k009.jpg", tmp_path / "images/k003.jpg")
    assert not made(specs["csv"]).store.manifest.unusable


def test_a_touched_shard_or_a_new_decoder_makes_a_store_stale(
    specs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [made(specs["shards"]).store.manifest.id]
    os.utime(tmp_path / "a.tar", ns=(1, 1))
    ids.append(made(specs["shards"]).store.manifest.id)
    monkeypatch.setattr("workbench.data.cached.store.decoder", lambda: "pillow 99")
    ids.append(made(specs["shards"]).store.manifest.id)
    assert len(set(ids)) == 3


def test_the_store_of_older_data_with_the_same_name_is_removed(specs: dict[str, str], tmp_path: Path) -> None:
    made(specs["csv"])
    made(specs["shards"])
    text = (tmp_path / "list.csv").read_text()
    (tmp_path / "list.csv").write_text(text.replace("photo of", "image of"))
    newer = made(specs["csv"])
    assert newer.text(0).captions == ("image of images/k000.jpg",)
    assert sorted(one.manifest.spec for one in STORES.entries()) == ["a.tar", "list.csv"]


def flipped(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, lambda content: content[:-1]) for name in (IMAGES, TEXTS, INDEX, MANIFEST)),
        *((name, flipped) for name in (INDEX, MANIFEST)),
        *((name, lambda _: b"") for name in (IMAGES, TEXTS, INDEX, MANIFEST)),
    ],
)
def test_a_damaged_store_is_replaced(specs: dict[str, str], name: str, damage: Callable[[bytes], bytes]) -> None:
    whole = made(specs["shards"]).store
    path = whole.folder / name
    content = path.read_bytes()
    path.write_bytes(damage(content))
    again = made(specs["shards"]).store
    assert again.manifest.id != whole.manifest.id
    assert path.read_bytes() == content or name == MANIFEST
    assert made(specs["shards"]).store.manifest.id == again.manifest.id


def test_a_store_with_a_missing_file_is_replaced(specs: dict[str, str]) -> None:
    (made(specs["shards"]).store.folder / TEXTS).unlink()
    assert made(specs["shards"])[0].key == "k000"


def _prepare_slowly(policy: CachePolicy, pause_s: float, answer: "Queue[str]") -> None:
    honest = writer.content_of

    def slowly(*arguments: Any) -> Any:
        time.sleep(pause_s)
        return honest(*arguments)

    writer.content_of = slowly
    dataset = opened("a.tar", policy).dataset
    assert isinstance(dataset, PreparedDataset)
    answer.put(dataset.store.manifest.id)


PIXELS = CachePolicy("pixels")
CROPS = CachePolicy("views", input_specs=(FORM,), num_views=3, seed=5)


def preparing_process(policy: CachePolicy, pause_s: float) -> tuple[BaseProcess, "Queue[str]"]:
    context = multiprocessing.get_context("fork")
    answer: Queue[str] = context.Queue()
    process = context.Process(target=_prepare_slowly, args=(policy, pause_s, answer))
    process.start()
    return process, answer


@pytest.mark.parametrize("policy", [PIXELS, CROPS], ids=["pixels", "views"])
def test_a_killed_preparation_leaves_no_store(specs: dict[str, str], cache: Path, policy: CachePolicy) -> None:
    process, _ = preparing_process(policy, 0.05)
    deadline = time.monotonic() + 30
    while not list((cache / "prepared").glob(f"*/.tmp-*/{IMAGES}")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    assert list((cache / "prepared").glob("*/.tmp-*"))
    assert STORES.entries() == []
    assert isinstance(opened(specs["shards"], policy).dataset, PreparedDataset)
    assert len(STORES.entries()) == 1
    assert not list((cache / "prepared").glob("*/.tmp-*"))


def test_leftovers_of_a_killed_preparation_are_removed(
    specs: dict[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr("workbench.files.started_at", lambda _: "an hour ago")
        left = temporary_path(cache / "prepared" / "other" / "store")
    left.mkdir(parents=True)
    (left / IMAGES).write_bytes(bytes(1000))
    made(specs["shards"])
    assert not left.exists()


@pytest.mark.usefixtures("specs")
@pytest.mark.parametrize("policy", [PIXELS, CROPS], ids=["pixels", "views"])
def test_of_two_at_once_one_prepares_and_the_other_waits(
    cache: Path, capfd: pytest.CaptureFixture[str], policy: CachePolicy
) -> None:
    started = [preparing_process(policy, 0.05) for _ in range(2)]
    assert len({answer.get(timeout=60) for _, answer in started}) == 1
    for process, _ in started:
        process.join()
    assert capfd.readouterr().err.count("waiting for another process that prepares the same data") == 1
    assert len(list((cache / "prepared").glob("*/store"))) == 1


def test_too_many_broken_images_are_an_error_if_prepared_and_ignored_by_auto(write_tar: WriteTar, pairs: Pairs) -> None:
    bad = {f"k{number:03d}.jpg": b"<html>" for number in range(6)}
    spec = str(write_tar(pairs(30) | bad))
    with pytest.raises(ValueError, match=r"^too many images cannot be used, 6 of 30"):
        opened(spec, CachePolicy("pixels"))
    dataset, notes = opened(spec, CachePolicy("auto"))
    assert not isinstance(dataset, PreparedDataset)
    assert notes == []
    assert STORES.entries() == []


def test_a_full_disk_is_one_line_and_does_not_stop_auto(
    specs: dict[str, str], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "pictures.bin")

    monkeypatch.setattr(writer, "write_store", full)
    with pytest.raises(ValueError, match=r"^a.tar cannot be prepared \(disk full at [^\n]*WORKBENCH_CACHE[^\n]*$"):
        opened(specs["shards"], CachePolicy("pixels"))
    with pytest.raises(ValueError, match=r"^a.tar cannot be prepared \(disk full at [^\n]*WORKBENCH_CACHE[^\n]*$"):
        opened(specs["shards"], views_of(3))
    for policy in (CachePolicy("auto"), views_of(3, "auto")):
        dataset, [note] = opened(specs["shards"], policy)
        assert not isinstance(dataset, PreparedDataset)
        assert "disk full" in note
    assert not list((cache / "prepared").glob("*/.tmp-*"))


def test_a_store_that_does_not_fit_is_not_started(
    specs: dict[str, str], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr("workbench.cache.entries.free_bytes", lambda _: 50_000)  # the images take 86 kB
    with pytest.raises(ValueError, match=r"disk full at .*: needs about 8\d kB"):
        opened(specs["shards"], CachePolicy("pixels"))
    [note] = opened(specs["shards"], CachePolicy("auto")).notes
    assert "disk full" in note
    assert not (cache / "prepared").exists()


def test_a_cache_that_cannot_be_written_stops_no_run(
    specs: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "a.tar"))
    [note] = opened(specs["csv"], CachePolicy("auto")).notes
    assert "no store can be written" in note
    assert "\n" not in note


def test_auto_prepares_small_data_that_is_read_more_than_once(
    specs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kind(num_reads: int | None) -> str:
        dataset, notes = opened(specs["csv"], CachePolicy("auto", num_reads=num_reads))
        assert notes == []
        return dataset.store.manifest.source.kind if isinstance(dataset, PreparedDataset) else "live"

    assert kind(20) == "live"
    assert kind(21) == "pixels"
    assert kind(1) == "pixels"  # there it is
    [one] = STORES.entries()
    STORES.remove(one.folder)
    assert kind(None) == "pixels"
    STORES.remove(one.folder)
    made(specs["csv"], "jpeg")
    assert kind(1) == "jpeg"

    monkeypatch.setattr(preparing, "AUTO_BYTES", 50_000)
    dataset, [note] = opened(specs["shards"], CachePolicy("auto"))
    assert not isinstance(dataset, PreparedDataset)
    assert "workbench data prepare" in note
    assert " kB" in note


def test_the_estimate_is_near_what_it_takes(specs: dict[str, str]) -> None:
    for form in ("shards", "csv", "samples"):
        dataset = open_dataset(specs[form], "train", 20 if form == "samples" else 0)
        estimated_bytes = estimate_store(dataset, "pixels").size_bytes
        sizes = prepare(dataset, "pixels").manifest.sizes
        assert estimated_bytes == pytest.approx(sum(sizes.values()), rel=0.15)


MEASURE = """
import sys
from workbench.data.batches import BatchStream
from workbench.data.cached.prepare import CachePolicy, cached
from workbench.data.spec import open_dataset
from workbench.embeddings import InputSpec
from workbench.models.tokenizers import WordTokenizer

def resident_mb():
    lines = open("/proc/self/status").read().splitlines()
    return max(int(line.split()[1]) / 1024 for line in lines if line.startswith(sys.argv[2]))

form = InputSpec(16, WordTokenizer(("a",), 8), "id")
policy = CachePolicy("pixels", input_specs=(form,), num_reads=10**9)
dataset = cached(open_dataset(sys.argv[1], "train"), policy).dataset
stream = BatchStream(dataset, form, (), batch_size=50, seed=0)
for _ in stream.batches(0, 4):
    pass
before = resident_mb()
for _ in stream.batches(4, len(dataset) // 50):
    pass
print(dataset.store.manifest.sizes["pictures.bin"] / 2**20, resident_mb() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
def test_streaming_a_store_takes_constant_memory(write_tar: WriteTar, pairs: Pairs) -> None:
    spec = write_tar(pairs(600, size=(300, 240)))
    answer = subprocess.run(
        [sys.executable, "-c", MEASURE, str(spec), "VmRSS"], capture_output=True, text=True, check=True, timeout=300
    )
    size_mb, grown_mb = map(float, answer.stdout.split())
    assert size_mb > 120
    assert grown_mb < 50


def test_a_spawned_process_opens_the_same_store_or_none(specs: dict[str, str], tmp_path: Path) -> None:
    prepared = made(specs["csv"])
    prepared.keep_tokens(FORM)
    sent = pickle.dumps(prepared)
    assert len(sent) < 2000  # nothing of the images
    received = pickle.loads(sent)
    assert received[5] == prepared[5]
    assert received.tokens(5, 0, FORM.tokenizer_id).tolist() == FORM.tokenize(["photo of images/k005.jpg"])[0].tolist()
    os.utime(tmp_path / "images/k005.jpg", ns=(1, 1))
    made(specs["csv"])
    with pytest.raises(ValueError, match="has been replaced: start again"):
        pickle.loads(sent)


def test_the_manifest_is_small_and_readable(specs: dict[str, str]) -> None:
    store = made(specs["shards"]).store
    manifest = Manifest.model_validate_json((store.folder / MANIFEST).read_text())
    assert manifest == store.manifest
    assert manifest.spec == "a.tar"
