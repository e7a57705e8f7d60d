"""Evaluation data without the images that cannot be decoded."""

from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.data.evaluation_set import open_evaluation_set
from workbench.data.sources.tar import ShardDataset
from workbench.data.spec import open_dataset
from workbench.data.survey import readable

Pairs = Callable[..., dict[str, bytes]]
WriteTar = Callable[..., Path]
WriteImages = Callable[..., list[str]]


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
