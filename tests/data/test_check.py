"""The report on a dataset in numbers, on a folder of damaged images, and the checks before a run."""

import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from workbench.data.check import check, preflight
from workbench.data.evaluation_set import EvaluationSet, Subset
from workbench.data.sources.tar import ShardDataset
from workbench.data.spec import open_dataset
from workbench.embeddings import InputSpec
from workbench.models.tokenizers import BytePairTokenizer

Pairs = Callable[..., dict[str, bytes]]
WriteTar = Callable[..., Path]
REAL = BytePairTokenizer(78)


def test_the_report_by_numbers(write_tar: WriteTar, pairs: Pairs, image: Callable[..., bytes]) -> None:
    members = pairs(20) | {
        "k003.jpg": image(2),
        "k004.jpg": image(4, (100, 50)),
        "k005.jpg": b"<html>",
        "k006.txt": b"caption 7",
        "k008.txt": b"a " * 76,
        "k009.txt": b"a " * 75,  # 77 tokens with start and end, not cut
        "k010.txt": b"caf\xe9",
    }
    document = check(ShardDataset([write_tar(members)]), 0, REAL)
    assert document["problem"] == ""
    assert (document["num_pairs"], document["num_captions"], document["num_distinct_captions"]) == (20, 20, 19)
    assert document["words_per_caption"] == {"min": 1, "median": 2, "max": 76}
    assert document["share_cut_at_77_tokens"] == 1 / 20
    assert document["num_captions_not_utf8"] == 1
    assert document["duplicate_captions"] == {
        "num_pairs": 2,
        "false_negative_share": 2 / (20 * 19),
        "ceiling_text_to_image_r1": 19 / 20,
        "block_size": 1000,
        "most_shared": [{"caption": "caption 7", "num_pictures": 2}],
    }
    images = document["pictures"]
    assert images["num_looked_at"] == 20
    assert images["width_px"] == {"min": 40, "median": 40, "max": 100}
    assert images["height_px"] == {"min": 32, "median": 32, "max": 50}
    assert (images["num_duplicates"], images["duplicates"]) == (1, [["k002", "k003"]])
    assert images["unusable"] == {"no JPEG, PNG or WebP": 1}
    assert "'k005'" in images["unusable_examples"]["no JPEG, PNG or WebP"]
    assert document["classes"] is None


def test_some_images_are_drawn_and_always_the_same(write_tar: WriteTar, pairs: Pairs) -> None:
    dataset = ShardDataset([write_tar(pairs(30))])
    reports = [check(dataset, 10, REAL) for _ in range(2)]
    assert reports[0]["pictures"]["num_looked_at"] == 10
    assert reports[0] == reports[1]
    assert check(dataset, 99, REAL)["pictures"]["num_looked_at"] == 30


def test_classes_are_counted(write_images: Callable[..., list[str]], tmp_path: Path) -> None:
    write_images(3, "animals/cat")
    write_images(1, "animals/dog", 3)
    (tmp_path / "animals" / "unicorn").mkdir()
    report = check(open_dataset(f"folder:{tmp_path / 'animals'}", "train"), 0, REAL)
    assert report["classes"] == {"cat": 3, "dog": 1, "unicorn": 0}
    # Images of one class are no false negatives of one another.
    assert report["duplicate_captions"]["ceiling_text_to_image_r1"] == 1


def test_what_training_would_refuse_is_the_problem(write_tar: WriteTar, pairs: Pairs) -> None:
    members = pairs(9) | {f"k{number:03d}.txt": b"untitled" for number in range(9)}
    report = check(ShardDataset([write_tar(members)]), 0, REAL)
    assert report["problem"].startswith("all 9 pairs have the same caption, 'untitled'")


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of 100 bytes that promises 14,000 x 14,000 pixels."""

    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 14_000, 14_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", b"") + part(b"IEND", b"")


def hostile() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Files that are images after all, and files that are none."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = noise.quantize(16)
    frames = [noise.rotate(90 * turn) for turn in range(3)]
    usable = {
        "1x1.png": encoded(Image.new("RGB", (1, 1))),
        "1x5000.png": encoded(Image.new("L", (1, 5000))),
        "wide.jpg": encoded(noise.resize((20_000, 8)), "JPEG"),
        "cmyk.jpg": encoded(noise.convert("CMYK"), "JPEG"),
        "deep.png": encoded(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40))),
        "animated.webp": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "animated.png": encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "rotated.jpg": encoded(noise, "JPEG", exif=exif),
        "palette.png": encoded(palette, transparency=3),
        "grey_alpha.png": encoded(noise.convert("LA")),
        "jpeg_called.png": encoded(noise, "JPEG"),
    }
    whole = encoded(noise, "JPEG")
    unusable = {
        "truncated.jpg": whole[: len(whole) // 2],
        "page.jpg": b"<!DOCTYPE html><html>404</html>",
        "empty.jpg": b"",
        "bomb.png": bomb(),
        "gif_called.jpg": encoded(noise, "GIF"),
        "noise.webp": random.Random(0).randbytes(500),
    }
    return usable, unusable


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_every_kind_of_damaged_image_is_used_or_counted(tmp_path: Path, cache: Path) -> None:
    del cache
    usable, unusable = hostile()
    rows = ["filepath,title", *(f"{name},a {name}" for name in (*usable, *unusable, "missing.jpg"))]
    for name, content in (usable | unusable).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "list.csv").write_text("\n".join(rows))
    dataset = open_dataset(str(tmp_path / "list.csv"), "train")
    document = check(dataset, 0, REAL)
    assert document["pictures"]["unusable"] == {
        "no JPEG, PNG or WebP": 3,
        "cut short or damaged": 1,
        "empty file": 1,
        "too many pixels": 1,
        "missing file": 1,
    }
    assert document["pictures"]["width_px"]["max"] == 20_000
    assert document["problem"].startswith("too many images cannot be used, 7 of 18 (")
    sound = Subset(dataset, range(len(usable)))
    [images_NCHW] = EvaluationSet(sound).image_chunks(16)
    assert images_NCHW.shape == (11, 3, 16, 16)


def tokenize(captions: Sequence[str]) -> Tensor:
    """Six words at most."""
    return torch.tensor([([1] * len(caption.split()) + [0] * 6)[:6] for caption in captions])


FORM = InputSpec(8, tokenize, "words")


def test_good_data_give_no_notes(write_tar: WriteTar, pairs: Pairs) -> None:
    assert preflight(ShardDataset([write_tar(pairs(60))]), FORM, 16) == []
    assert preflight(ShardDataset([write_tar(pairs(1))]), FORM, 16) == []


@pytest.mark.parametrize("name", ["scenes", "emoji"])
def test_the_samples_give_no_notes(name: str) -> None:
    long = InputSpec(8, lambda captions: torch.zeros(len(captions), 9), "long")
    assert preflight(open_dataset(f"samples:{name}", "train", 1000), long, 128) == []


def test_identical_captions_are_refused(write_tar: WriteTar, pairs: Pairs) -> None:
    members = pairs(9) | {f"k{number:03d}.txt": b"untitled" for number in range(9)}
    with pytest.raises(ValueError, match=r"^all 9 pairs have the same caption, 'untitled'"):
        preflight(ShardDataset([write_tar(members)]), FORM, 4)


def test_identical_images_are_refused(write_tar: WriteTar, pairs: Pairs, image: Callable[..., bytes]) -> None:
    members = pairs(60) | {f"k{number:03d}.jpg": image(0) for number in range(60)}
    with pytest.raises(ValueError, match=r"^all 48 checked images are the same \(such as 'k000', 'k001'"):
        preflight(ShardDataset([write_tar(members)]), FORM, 4)


def test_too_many_unusable_images_are_refused(write_tar: WriteTar, pairs: Pairs) -> None:
    members = pairs(60) | {f"k{number:03d}.jpg": b"<html>" for number in range(0, 60, 2)}
    with pytest.raises(ValueError, match=r"^too many images cannot be used, 2\d of 48 \(2\d no JPEG, PNG or WebP"):
        preflight(ShardDataset([write_tar(members)]), FORM, 4)


def test_a_few_unusable_images_are_a_note(write_tar: WriteTar, pairs: Pairs) -> None:
    members = pairs(40) | {"k005.jpg": b"<html>", "k006.jpg": b""}
    [note] = preflight(ShardDataset([write_tar(members)]), FORM, 4)
    assert note.startswith("of a sample of the images, some cannot be used: 2 of 40 (1 ")


def test_shared_captions_are_a_note_if_frequent_in_a_batch(write_tar: WriteTar, pairs: Pairs) -> None:
    members = pairs(60) | {f"k{number:03d}.txt": f"caption {number % 6}".encode() for number in range(60)}
    dataset = ShardDataset([write_tar(members)])
    # A pair has 9 others of its caption among 59, and 30 negatives in a batch of 31: 30 * 9 / 59 of them are true.
    assert preflight(dataset, FORM, 31) == [
        "60 pairs share 6 captions: in a batch of 31, 4.6 of a pair's 30 negatives have its caption on average"
    ]
    assert preflight(dataset, FORM, 4) == []  # 3 * 9 / 59 is below a half


def test_of_many_pairs_a_sample_is_compared(write_tar: WriteTar, pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    members = pairs(60) | {f"k{number:03d}.txt": b"the same" for number in range(1, 60)}
    dataset = ShardDataset([write_tar(members)])
    monkeypatch.setattr("workbench.data.check.MOST_COMPARED", 20)
    [note] = preflight(dataset, FORM, 31)
    assert note.startswith("a sample of 20 pairs share 2 captions")


def test_truncated_captions_are_a_note(write_tar: WriteTar, pairs: Pairs) -> None:
    members = pairs(10) | {f"k{number:03d}.txt": b"word " * 6 + b"%d" % number for number in range(3)}
    assert preflight(ShardDataset([write_tar(members)]), FORM, 4) == [
        "about 30% of the captions fill the 6 tokens that the student reads, or are cut there: "
        "one with a longer text_cfg.context_length reads more"
    ]
