"""All captions of all images, and the images in chunks."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from workbench.data.dataset import ZeroShotTask
from workbench.data.evaluation_set import EvaluationSet, open_evaluation_set, readable
from workbench.data.images import evaluation_HWC
from workbench.data.sources.tar import ShardDataset
from workbench.data.spec import open_dataset

Pairs = Callable[..., dict[str, bytes]]
WriteTar = Callable[..., Path]
WriteImages = Callable[..., list[str]]


def test_captions_know_their_images_and_groups(write_tar: WriteTar, pairs: Pairs) -> None:
    records = {
        "k000.json": b'{"captions": ["a", "b"], "class": "duck"}',
        "k001.json": b'{"captions": ["c"], "class": "goose", "group": "g"}',
        "k002.json": b'{"captions": ["d", "e", "f"], "class": 3, "group": "g"}',
    }
    path = write_tar(pairs(3) | records)
    evaluation = open_evaluation_set(str(path), "validation")
    assert evaluation.num_images == 3
    assert evaluation.captions == list("abcdef")
    assert evaluation.caption_image_index_M.dtype == torch.int64
    assert evaluation.caption_image_index_M.tolist() == [0, 0, 1, 2, 2, 2]
    assert evaluation.image_group_N == ["k000", "g", "g"]
    assert evaluation.caption_group_M == ["k000", "k000", "g", "g", "g", "g"]
    assert evaluation.classes_N == ["duck", "goose", "3"]
    assert evaluation.answers_N == [("duck",), ("goose",), ("3",)]
    assert evaluation.fingerprint == ShardDataset([path]).fingerprint
    assert open_evaluation_set(str(path), "validation", 2).captions == list("abc")


def test_without_a_class_for_all_there_are_none(write_tar: WriteTar, pairs: Pairs) -> None:
    path = write_tar(pairs(2) | {"k000.json": b'{"class": "duck"}'})
    evaluation = EvaluationSet(ShardDataset([path]))
    assert (evaluation.classes_N, evaluation.answers_N) == (None, None)


def test_a_task_may_name_several_correct_classes(write_tar: WriteTar, pairs: Pairs) -> None:
    task = ZeroShotTask((("a",), ("b",)), ("{}",), answers=lambda text: ("a", "b") if text.key == "k000" else ("b",))
    evaluation = EvaluationSet(ShardDataset([write_tar(pairs(2))]), task)
    assert evaluation.answers_N == [("a", "b"), ("b",)]


@pytest.mark.parametrize("chunk", [1, 32, 50, 256])
def test_images_come_in_order_and_in_chunks(write_tar: WriteTar, pairs: Pairs, chunk: int) -> None:
    dataset = ShardDataset([write_tar(pairs(70))])
    chunks = list(EvaluationSet(dataset).image_chunks(16, chunk))
    assert [len(images_nCHW) for images_nCHW in chunks[:-1]] == [chunk] * (len(chunks) - 1)
    images_NCHW = torch.cat(chunks)
    assert images_NCHW.dtype == torch.uint8
    expected = [torch.from_numpy(evaluation_HWC(dataset[number].image, 16).copy()) for number in range(70)]
    assert torch.equal(images_NCHW, torch.stack(expected).permute(0, 3, 1, 2))


def test_a_broken_image_is_named_and_leaves_no_thread(write_tar: WriteTar, pairs: Pairs) -> None:
    dataset = ShardDataset([write_tar(pairs(40) | {"k035.jpg": b"<html>"})])
    with pytest.raises(ValueError, match="image of 'k035'"):
        list(EvaluationSet(dataset).image_chunks(16))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("look-ahead")]


def test_readable_data_are_unchanged(write_tar: WriteTar, pairs: Pairs) -> None:
    dataset = ShardDataset([write_tar(pairs(3))])
    assert readable(dataset) == (dataset, "")


def test_broken_images_are_left_out_of_evaluation(write_tar: WriteTar, pairs: Pairs) -> None:
    path = write_tar(pairs(40) | {"k005.jpg": b"<html>", "k017.jpg": b""})
    for _ in range(2):  # found, then remembered
        evaluation = open_evaluation_set(str(path), "validation")
        assert evaluation.num_images == len(evaluation.captions) == sum(map(len, evaluation.image_chunks(8))) == 38
        assert "caption 5" not in evaluation.captions
        assert evaluation.note.startswith("images that cannot be used are not evaluated: 2 of 40 (1 ")
    assert evaluation.fingerprint == ShardDataset([path]).fingerprint


def test_only_broken_images_are_tried_again(
    write_images: WriteImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = write_images(30)
    (tmp_path / "list.csv").write_text("filepath,title\n" + "".join(f"{name},a {name}\n" for name in names))
    whole = (tmp_path / names[7]).read_bytes()
    (tmp_path / names[7]).write_bytes(whole[: len(whole) // 2])
    dataset = open_dataset(str(tmp_path / "list.csv"), "validation")
    assert len(readable(dataset)[0]) == 29
    (tmp_path / names[7]).write_bytes(whole)
    asked: list[int] = []
    honest = type(dataset).__getitem__
    monkeypatch.setattr(type(dataset), "__getitem__", lambda self, index: (asked.append(index), honest(self, index))[1])
    assert readable(dataset) == (dataset, "")
    assert asked == [7]


def test_too_many_are_refused(write_tar: WriteTar, pairs: Pairs) -> None:
    bad = {f"k{number:03d}.jpg": b"<html>" for number in range(6)}
    with pytest.raises(ValueError, match=r"^too many images cannot be used, 6 of 40 \(6 no JPEG, PNG or WebP"):
        open_evaluation_set(str(write_tar(pairs(40) | bad)), "validation")


@pytest.mark.parametrize("content", ["", "{", "[99999, -1]", "7", "null", '["x"]'])
def test_a_damaged_cache_entry_is_ignored(write_tar: WriteTar, pairs: Pairs, cache: Path, content: str) -> None:
    dataset = ShardDataset([write_tar(pairs(10) | {"k005.jpg": b"<html>"})])
    (cache / "readable").mkdir(parents=True)
    (cache / "readable" / f"{dataset.fingerprint}.json").write_text(content)
    assert len(readable(dataset)[0]) == 9


def test_a_cache_that_cannot_be_written_is_no_error(write_tar: WriteTar, pairs: Pairs, cache: Path) -> None:
    dataset = ShardDataset([write_tar(pairs(10) | {"k005.jpg": b"<html>"})])
    (cache / "readable").write_text("in the way")
    assert len(readable(dataset)[0]) == 9
