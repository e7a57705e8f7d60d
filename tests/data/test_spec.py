"""Every form of a SPEC, and the errors of wrong ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.data.sources.tar import shard_paths
from workbench.data.spec import Role, check_spec, open_dataset

Pairs = Callable[..., dict[str, bytes]]
WriteTar = Callable[..., Path]


@pytest.fixture
def folder(write_tar: WriteTar, pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``shards/00000.tar`` to ``00002.tar`` of two pairs each, seen from the folder that holds ``shards``."""
    for number in range(3):
        write_tar(pairs(2, start=2 * number), f"shards/{number:05d}.tar")
    for name in ("checksums.txt", "readme.md", "pairs.json"):
        (tmp_path / "shards" / name).write_text("")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "shards"


@pytest.mark.parametrize(
    ("spec", "numbers"),
    [
        ("shards", [0, 1, 2]),
        ("shards/", [0, 1, 2]),
        ("shards/00001.tar", [1]),
        ("shards/{00000..00001}.tar", [0, 1]),
        ("shards/{00002..00002}.tar", [2]),
        ("shards/0000{0..2}.tar", [0, 1, 2]),
        ("{0..0}/{1..2}.tar", None),
    ],
)
def test_the_shards_of_a_spec(folder: Path, spec: str, numbers: list[int] | None) -> None:
    if numbers is None:
        with pytest.raises(ValueError, match="2 of 2 shards"):
            shard_paths(spec)
        return
    assert [path.resolve() for path in shard_paths(spec)] == [folder / f"{number:05d}.tar" for number in numbers]
    dataset = open_dataset(spec, "train")
    assert len(dataset) == 2 * len(numbers)
    assert dataset.text(0).key == f"k{2 * numbers[0]:03d}"


def test_a_name_with_a_colon_is_a_path_if_it_exists(folder: Path) -> None:
    folder.rename(folder.with_name("a:b"))
    assert len(open_dataset("a:b", "train")) == 6


@pytest.mark.usefixtures("folder")
def test_num_pairs_is_a_limit() -> None:
    assert len(open_dataset("shards", "train", 5)) == 5
    assert len(open_dataset("shards", "train", 7)) == 6


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "a SPEC is samples:NAME"),
        ("shard", "did you mean 'shards'?"),
        ("shards/00007.tar", "did you mean 'shards/0000"),
        ("elsewhere/00000.tar", "a SPEC is samples:NAME"),
        (
            "shards/{00001..00004}.tar",
            "2 of 4 shards cannot be used; shard 'shards/00003.tar' is missing: .*data.bad_shards=skip",
        ),
        ("shards/{5..2}.tar", "write the smaller number first"),
        ("shards/checksums.txt", "needs one column 'filepath'"),
        ("shards/readme.md", "is not a .tar file"),
        ("shards/pairs.json", "write coco:shards/pairs.json@DIR .* or karpathy:shards/pairs.json@DIR"),
        ("empty", "no .tar files in the folder 'empty': a SPEC is"),
        (".", r"no .tar files in the folder '\.': give one of its folders, such as shards"),
        ("sample:scenes", "did you mean 'samples:'.*a SPEC is"),
        ("pipe:cat shards/00000.tar", "unknown data 'pipe:'.*a SPEC is"),
        ("ftp://example.org/00000.tar", "unknown data 'ftp:'"),
        ("samples:scene", "did you mean 'scenes'"),
        ("samples:scenes/trian", "did you mean 'train'"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_wrong_spec_is_one_line_with_the_remedy(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
        open_dataset(spec, "train")


@pytest.mark.parametrize(
    ("spec", "role", "num_pairs", "asked"),
    [
        ("samples:scenes", "validation", 0, ("scenes", "validation", 0)),
        ("samples:scenes", "teacher", 4, ("scenes", "teacher", 4)),
        ("samples:emoji/test", "train", 2, ("emoji", "test", 2)),
    ],
)
def test_the_split_of_a_sample_set_defaults_to_the_role(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    spec: str,
    role: Role,
    num_pairs: int,
    asked: tuple[str, str, int],
) -> None:
    calls: list[tuple[str, str, int]] = []

    def sample_shards(*arguments: object) -> Path:
        calls.append(arguments)
        return folder

    monkeypatch.setattr("workbench.data.spec.sample_shards", sample_shards)
    assert len(open_dataset(spec, role, num_pairs)) == (num_pairs or 6)
    assert calls == [asked]


@pytest.mark.parametrize("spec", ["samples:scenes-dense", "samples:scenes-dense/test", "coco-detection:a.json@b"])
def test_images_with_boxes_are_for_detectors(spec):
    for check in (lambda: check_spec(spec, "train"), lambda: open_dataset(spec, "train")):
        with pytest.raises(ValueError, match=r"^[^\n]*workbench dense --data[^\n]*$"):
            check()
