"""``workbench data``: drawing samples, and checking data before training."""

import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HOSTILE = ["x" * 10_000, "a\0b", "\x1b[31mred\x1b[0m", "[/b] [red] [link=x]", "\u202eabc", "\U0001f389 party"]


def test_samples_are_drawn_at_any_size(workbench) -> None:
    result = workbench("data", "samples", "scenes", "--out", "pairs", "--split", "train", "--pairs", "30", "--json")
    assert json.loads(result.out)["num_pairs"] == {"train": 30}
    assert {path.name for path in Path("pairs/train").iterdir()} == {"00000.tar", "checksums.txt", "index.json"}


def test_an_unknown_set_offers_the_nearest(workbench) -> None:
    result = workbench("data", "samples", "scene", "--out", "pairs")
    assert result.code == 2
    assert "did you mean 'scenes'?" in result.err


@pytest.fixture
def pairs(tmp_path: Path) -> Callable[..., str]:
    """``pairs(captions)`` writes as many pictures and a CSV that lists them."""

    def write(captions: list[str]) -> str:
        lines = ["filepath\ttitle"]
        for number, caption in enumerate(captions):
            coarse = np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(coarse).resize((50 + number, 40)).save(buffer, "JPEG")
            (tmp_path / f"{number}.jpg").write_bytes(buffer.getvalue())
            lines.append(f'{number}.jpg\t"{caption}"')
        (tmp_path / "pairs.tsv").write_text("\n".join(lines))
        return "pairs.tsv"

    return write


def test_a_check_reports_what_it_found(workbench, pairs: Callable[..., str]) -> None:
    spec = pairs([f"caption {number // 2}" for number in range(8)])
    Path("3.jpg").write_bytes(b"<html>")
    document = json.loads(workbench("data", "check", spec, "--json").out)
    assert document["spec"] == spec
    assert document["num_pairs"] == 8
    assert document["duplicate_captions"]["num_pairs"] == 8
    assert document["duplicate_captions"]["ceiling_text_to_image_r1"] == 0.5
    assert document["pictures"]["unusable"] == {"no JPEG, PNG or WebP": 1}
    assert document["pictures"]["width_px"] == {"min": 50, "median": 54, "max": 57}
    assert document["sheet"] is None

    result = workbench("data", "check", spec)
    assert result.code == 1  # one of eight is more than training passes over
    for shown in (
        "8, 4 of them distinct",
        "0.500 among 1,000",
        "50 to 57, median 54",
        "2 images: caption 0",
        "'3.jpg'",
    ):
        assert shown in result.out
    assert re.search(r"images checked +3\b", workbench("data", "check", spec, "--num", "3").out)
    assert re.search(r"images checked +8\b", workbench("data", "check", spec, "--num", "3", "--all").out)


def test_classes_are_listed(workbench) -> None:
    for number in range(25):
        for copy in range(2):
            path = Path(f"animals/class_{number:02d}/{copy}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (9 * number, 0, 99 * copy)).save(path)
    result = workbench("data", "check", "folder:animals")
    assert "25 classes" in result.out
    assert "class 00" in result.out
    assert "... 5 more" in result.out
    assert "class 12" not in result.out
    assert json.loads(workbench("data", "check", "folder:animals", "--json").out)["classes"]["class 12"] == 2


def test_numbers_for_class_names_are_warned_of_and_zero_shot_comes_first(workbench) -> None:
    for number in range(8):
        path = Path(f"digits/{number % 2}/{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (30 * number, 0, 0)).save(path)
    for command in (("data", "check", "folder:digits"), ("evaluate", "sample:scenes", "--data", "folder:digits")):
        with pytest.warns(UserWarning, match=r"2 of 2 classes of 'digits' .* name them in digits/classes\.json"):
            result = workbench(*command, "--json")
        assert result.code == 0
    assert next(iter(json.loads(result.out)["metrics"])) == "zero_shot_top1"


def test_a_sheet_is_drawn(workbench, pairs: Callable[..., str]) -> None:
    result = workbench("data", "check", pairs(HOSTILE[2:]), "--sheet", "sheet.png", "--json")
    assert json.loads(result.out)["sheet"] == str(Path("sheet.png").absolute())
    assert Image.open("sheet.png").format == "PNG"
    result = workbench("data", "check", "pairs.tsv", "--sheet", "sheet.jpg")
    assert (result.code, result.err) == (2, "workbench: --sheet sheet.jpg: the file name must end in .png\n")


def test_what_training_would_refuse_ends_with_its_reason(workbench, pairs: Callable[..., str]) -> None:
    spec = pairs(["untitled"] * 6)
    for options in ((), ("--json",)):
        result = workbench("data", "check", spec, *options)
        assert result.code == 1
        assert "untitled" in result.out
        assert result.err.startswith(
            "workbench: training would refuse this data: all 6 pairs have the same caption, 'untitled'"
        )


def test_a_few_unusable_images_of_a_few_are_too_many(workbench, pairs: Callable[..., str]) -> None:
    """Training counts them every epoch, and would end at the sixth."""
    spec = pairs([f"caption {number}" for number in range(28)])
    for number in (3, 9, 20):
        Path(f"{number}.jpg").write_bytes(b"<html>")
    result = workbench("data", "check", spec, "--json")
    assert result.code == 1
    assert json.loads(result.out)["problem"].startswith("too many images cannot be used, 3 of 28 (")
    assert result.err.startswith("workbench: training would refuse this data: too many images cannot be used, 3 of 28")
    for number in (3, 9):
        Path(f"{number}.jpg").write_bytes(Path("1.jpg").read_bytes())
    assert workbench("data", "check", spec).code == 0


def test_captions_left_out_and_line_breaks_are_counted(workbench, pairs: Callable[..., str]) -> None:
    spec = pairs(["", "two\nlines", "three", "None", " "])
    result = workbench("data", "check", spec, "--json")
    document = json.loads(result.out)
    assert (document["num_pairs"], document["num_captions_with_line_breaks"]) == (3, 1)
    assert document["captions_left_out"] == {"blank": 2}
    assert document["notes"][0].startswith("left out captions of 'pairs.tsv': 2 of 5 (2 blank")
    assert "2 (2 blank)" in workbench("data", "check", spec).out


def test_too_many_blank_captions_end_as_training_would_refuse_them(workbench, pairs: Callable[..., str]) -> None:
    spec = pairs([f"caption {number}" if number % 5 else " " for number in range(40)])
    result = workbench("data", "check", spec, "--json")
    assert result.code == 1
    assert result.err.startswith("workbench: training would refuse this data: too many captions of 'pairs.tsv'")
    document = json.loads(result.out)
    assert document["spec"] == spec
    assert "8 of 40 (8 blank" in document["problem"]


def write_shards(count: int, text: bytes) -> None:
    for shard in range(count):
        with tarfile.open(f"{shard}.tar", "w") as archive:
            for number in range(3):
                image = io.BytesIO()
                Image.new("RGB", (8, 8), (80 * number, 80 * shard, 0)).save(image, "PNG")
                for name, content in (("png", image.getvalue()), ("txt", text + b" %d" % number)):
                    header = tarfile.TarInfo(f"{shard}-{number}.{name}")
                    header.size = len(content)
                    archive.addfile(header, io.BytesIO(content))


def test_bad_shards_are_refused_unless_they_may_be_skipped(workbench) -> None:
    write_shards(3, b"a caption")
    Path("1.tar").write_bytes(Path("1.tar").read_bytes()[:2000])
    for command, code in (("check", 1), ("prepare", 2)):
        result = workbench("data", command, "{0..3}.tar")
        assert result.code == code
        assert "2 of 4 shards cannot be used" in result.err
        assert "--skip-bad-shards" in result.err
        assert "data.bad_shards=skip" in result.err
    problem = json.loads(workbench("data", "check", "{0..3}.tar", "--json").out)["problem"]
    assert problem.startswith("2 of 4 shards cannot be used")
    assert workbench("data", "check", "1.tar").code == 2  # nothing could be opened
    result = workbench("data", "check", "{0..3}.tar", "--skip-bad-shards", "--json")
    document = json.loads(result.out)
    assert (result.code, document["num_pairs"], document["skipped_shards"]) == (0, 6, ["3.tar", "1.tar"])
    assert "left out 2 of 4 shards" in document["notes"][0]
    prepared = json.loads(workbench("data", "prepare", "{0..3}.tar", "--skip-bad-shards", "--json").out)
    assert prepared["stores"][0]["num_pairs"] == 6


def test_the_chosen_reading_of_captions_is_printed(workbench) -> None:
    write_shards(1, b"a caption\nanother")
    document = json.loads(workbench("data", "check", "0.tar", "--json").out)
    assert (document["num_pairs"], document["num_captions"], document["lines_are_captions"]) == (3, 6, True)
    assert "each line is read as a caption" in workbench("data", "check", "0.tar").out


@pytest.mark.parametrize("caption", HOSTILE)
def test_captions_may_hold_anything(workbench, pairs: Callable[..., str], caption: str) -> None:
    spec = pairs([caption, caption, "another"])
    result = workbench("data", "check", spec, "--sheet", "sheet.png")
    assert (result.code, result.err) == (0, "")
    assert "2 images: " in result.out
    assert result.out.replace("\n", "").isprintable()
    assert max(map(len, result.out.splitlines())) < 200
    document = json.loads(workbench("data", "check", spec, "--json").out)
    assert document["duplicate_captions"]["most_shared"] == [{"caption": caption, "num_pictures": 2}]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nowhere.csv", "no such data 'nowhere.csv'"),
        ("folder:nowhere", "no such data 'nowhere'"),
        ("coco:x.json", "write it as coco:captions.json@images"),
        ("a.tar*0 + b.tar", "'*0' is not a ratio"),
        ("", "no data given"),
        ("ftp:x", "unknown data 'ftp:'"),
    ],
)
def test_a_wrong_spec_is_one_line(workbench, spec: str, says: str) -> None:
    result = workbench("data", "check", spec)
    assert (result.code, result.out) == (2, "")
    assert says in result.err
    assert result.err.count("\n") == 1
