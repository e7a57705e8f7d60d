"""All captions of all images, and the images in chunks."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from workbench.data.augment import evaluation_HWC
from workbench.data.evaluation_set import EvaluationSet, open_evaluation_set
from workbench.data.sources.tar import ShardDataset

Pairs = Callable[..., dict[str, bytes]]
WriteTar = Callable[..., Path]


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
    assert evaluation.fingerprint == ShardDataset([path]).fingerprint
    assert open_evaluation_set(str(path), "validation", 2).captions == list("abc")


def test_without_a_class_for_all_there_are_none(write_tar: WriteTar, pairs: Pairs) -> None:
    path = write_tar(pairs(2) | {"k000.json": b'{"class": "duck"}'})
    assert EvaluationSet(ShardDataset([path])).classes_N is None


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
