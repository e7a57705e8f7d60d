"""A sheet of images and captions: its layout, with captions of any kind."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.data.contact_sheet import CELL, MARGIN, NUM_LINES, _font, contact_sheet, wrapped, write_sheet
from workbench.data.sources.tar import ShardDataset
from workbench.formatting import size

Pairs = Callable[..., dict[str, bytes]]
WriteTar = Callable[..., Path]


def test_images_are_in_rows_above_their_captions(write_tar: WriteTar, pairs: Pairs, tmp_path: Path) -> None:
    dataset = ShardDataset([write_tar(pairs(8, size=(40, 20)))])
    write_sheet(dataset, tmp_path / "sheet.png")
    sheet_HWC = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet_HWC.shape[1] == 6 * (CELL + MARGIN) + MARGIN
    left, bottom = MARGIN + CELL + MARGIN, MARGIN + CELL  # of the second image
    shown = dataset[1].image.resize((CELL, CELL // 2), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(sheet_HWC[bottom - CELL // 2 : bottom, left : left + CELL], np.asarray(shown))
    text_HWC = sheet_HWC[bottom + 2 : bottom + 22, left : left + CELL]
    assert (text_HWC < 128).any()  # ink
    assert (sheet_HWC[MARGIN : bottom - CELL // 2, left : left + CELL] == 255).all()


def test_a_full_disk_reports_the_size_of_the_whole_file(
    write_tar: WriteTar, pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = ShardDataset([write_tar(pairs(8, size=(40, 20)))])
    write_sheet(dataset, tmp_path / "sheet.png")
    needed = size((tmp_path / "sheet.png").stat().st_size)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(ValueError, match=rf"needs about {needed}, has .*--sheet FILE\.png"):
        write_sheet(dataset, tmp_path / "other.png")
    assert not (tmp_path / "other.png").exists()


def test_a_broken_image_leaves_its_reason_in_red(write_tar: WriteTar, pairs: Pairs) -> None:
    sheet_HWC = np.asarray(contact_sheet(ShardDataset([write_tar(pairs(2) | {"k000.jpg": b"<html>"})])), np.int32)
    first, second = (sheet_HWC[:, left : left + CELL] for left in (MARGIN, 2 * MARGIN + CELL))
    assert ((first[..., 0] - first[..., 2]) > 100).any()
    assert not ((second[MARGIN + CELL :, :, 0] - second[MARGIN + CELL :, :, 2]) > 100).any()


@pytest.mark.parametrize("size", [(1, 1), (20_000, 3), (3, 20_000), (500, 400)])
def test_any_shape_fits(write_tar: WriteTar, pairs: Pairs, image: Callable[..., bytes], size: tuple[int, int]) -> None:
    contact_sheet(ShardDataset([write_tar(pairs(2) | {"k001.jpg": image(1, size)})]))


@pytest.mark.parametrize(
    "caption",
    ["", "x" * 10_000, "two\nlines", "a\0b \x1b[31mred\x1b[0m", "[/b]", "\u732b \U0001f389 \u202e", "word " * 999],
)
def test_any_caption_fits(caption: str) -> None:
    font = _font()
    lines = wrapped(caption, font)
    assert len(lines) <= NUM_LINES
    assert all(font.getlength(line) <= CELL for line in lines)
    assert "".join(lines).isprintable()
    assert len(caption) < 999 or lines[-1].endswith("\u2026")


def test_short_captions_are_not_cut() -> None:
    assert wrapped("a dog and a cat", _font()) == ["a dog and a cat"]
    assert " ".join(wrapped("a bowl of stew with blue corn, and bread on its side", _font())).endswith("on its side")


def test_a_file_that_cannot_be_written_is_one_line(write_tar: WriteTar, pairs: Pairs, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^cannot write .*sheet.png: No such file[^\n]*name another with --sheet"):
        write_sheet(ShardDataset([write_tar(pairs(2))]), tmp_path / "no" / "sheet.png")
