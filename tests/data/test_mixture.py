"""Mixtures: parsing, sampling in the given ratio, unique keys."""

import json
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from workbench.config.mixture import Part, mixture_parts
from workbench.data.batches import BatchStream
from workbench.data.evaluation_set import open_evaluation_set
from workbench.data.mixture import Mixture
from workbench.data.sources.tar import ShardDataset
from workbench.data.spec import open_dataset, sample_set_of
from workbench.data.unusable import ImageError
from workbench.embeddings import InputSpec

Pairs = Callable[..., dict[str, bytes]]
WriteTar = Callable[..., Path]


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("a.tar*2 + b.csv*1", [("a.tar", 2), ("b.csv", 1)]),
        ("  a.tar * 0.5  +  samples:scenes/test  ", [("a.tar", 0.5), ("samples:scenes/test", 1)]),
        ("coco:x.json@y + folder:z*3 + {0..9}.tar*1e1", [("coco:x.json@y", 1), ("folder:z", 3), ("{0..9}.tar", 10)]),
        ("a+b.tar", []),
        ("a.tar*2", []),
        ("", []),
    ],
)
def test_mixtures_are_parsed(spec: str, parts: list[tuple[str, float]]) -> None:
    assert mixture_parts(spec) == [Part(*part) for part in parts]


def test_an_existing_path_is_not_a_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cats + dogs").mkdir()
    assert mixture_parts("cats + dogs") == []
    (tmp_path / "a*2").mkdir()
    assert mixture_parts("a*2 + b*2") == [Part("a*2", 1), Part("b", 2)]


@pytest.mark.parametrize("ratio", ["0", "-1", "two", "nan", "inf", "1:2", ""])
def test_a_bad_ratio_is_one_line(ratio: str) -> None:
    with pytest.raises(
        ValueError, match=r"^[^\n]*(is not a ratio: a mixture is 'SPEC\*2 \+ SPEC\*1'|no such data)[^\n]*$"
    ):
        open_dataset(f"a.tar*{ratio} + b.tar*1", "train")


def test_only_a_single_sample_set_has_its_own_splits() -> None:
    specs = ["samples:scenes", "samples:emoji/test", "samples:scenes*2 + a.tar", "a.tar", "folder:samples:scenes"]
    assert [sample_set_of(spec) for spec in specs] == ["scenes", "emoji", "", "", ""]


@pytest.fixture
def three(write_tar: WriteTar, pairs: Pairs) -> str:
    """Parts of 30, 20 and 10 pairs whose keys repeat, 2 : 1 : 1."""
    members = [pairs(30), pairs(20), pairs(9) | {"k009.jpg": b"<html>", "k009.txt": b"caption 9"}]
    paths = [write_tar(part, f"{number}.tar") for number, part in enumerate(members)]
    return f"{paths[0]}*2 + {paths[1]}*1 + {paths[2]}"


def form(image_size: int) -> InputSpec:
    def tokenize(captions: Sequence[str]) -> Tensor:
        return torch.tensor([[int(caption.split()[-1])] for caption in captions])

    return InputSpec(image_size, tokenize, "numbers")


def test_keys_and_groups_are_unique_and_samples_equal_the_parts(three: str) -> None:
    dataset = open_dataset(three, "train")
    texts = [dataset.text(index) for index in range(len(dataset))]
    assert len(texts) == len({text.key for text in texts}) == len({text.group for text in texts}) == 60
    assert [texts[place].key for place in (0, 29, 30, 49, 50)] == ["1/k000", "1/k029", "2/k000", "2/k019", "3/k000"]
    assert dataset[35].key == "2/k005"
    assert dataset[35].captions == ("caption 5",)
    assert dataset[35].image.tobytes() == open_dataset(three, "train")[5].image.tobytes()
    with pytest.raises(ImageError, match=r"^part 3 of the mixture: shard '.*2.tar', image of 'k009': no JPEG"):
        dataset[59]
    for beyond in (60, -1):
        with pytest.raises(IndexError):
            dataset.text(beyond)
    assert pickle.loads(pickle.dumps(dataset)).text(35) == dataset.text(35)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_ratio_is_kept_in_every_batch(three: str, num_workers: int) -> None:
    dataset = open_dataset(three, "train")
    stream = BatchStream(dataset, form(8), (form(12),), batch_size=11, seed=0, views=2, num_workers=num_workers)
    shown: Counter[tuple[str, int]] = Counter()
    for step, batch in enumerate(stream.batches(0, 12)):
        assert Counter(key[0] for key in batch.keys) == {"1": 5, "2": 3, "3": 3}  # 5.5, 2.75 and 2.75
        assert len(set(batch.keys)) == 11
        assert batch.keys == stream.batch(step).keys
        assert all(one.message.startswith("part 3 of the mixture") for one in batch.replaced)
        shown.update(zip(batch.keys, batch.views, strict=True))
    # Of 12 steps: two epochs of part 1 (6 steps each), two of part 2 (6 steps each), four of part 3 (3 steps each).
    of_part = {part: [count for (key, _), count in shown.items() if key[0] == part] for part in "123"}
    assert max(of_part["1"]) == max(of_part["2"]) == 1
    assert sum(of_part["3"]) == 36


def test_a_limit_is_divided_by_the_ratio(three: str) -> None:
    dataset = open_dataset(three, "train", 20)
    assert [source.num_samples for source in dataset.sources] == [10, 5, 5]
    assert [source.num_samples for source in open_dataset(three, "train", 48).sources] == [24, 12, 10]  # all it has
    with pytest.raises(ValueError, match=r"^2 pairs leave none for a part of the mixture: ask for more"):
        open_dataset(three, "train", 2)


def test_the_fingerprint_is_that_of_the_parts_in_order(write_tar: WriteTar, pairs: Pairs) -> None:
    one, two = (ShardDataset([write_tar(pairs(3, start=start), f"{start}.tar")]) for start in (0, 3))
    prints = {Mixture(parts, [1, 1]).fingerprint for parts in ([one, two], [two, one], [one, one])}
    assert len(prints | {one.fingerprint}) == 4


def test_a_mixture_can_be_evaluated(three: str) -> None:
    evaluation = open_evaluation_set(three, "validation")
    assert evaluation.num_images == 59
    assert "1 of 60 (1 no JPEG, PNG or WebP; such as part 3 of the mixture" in evaluation.note


def test_every_kind_of_spec_can_be_mixed(
    write_images: Callable[..., list[str]], tmp_path: Path, write_tar: WriteTar, pairs: Pairs
) -> None:
    names = write_images(4)
    write_images(3, "classes/a")
    write_images(3, "classes/b", 3)
    (tmp_path / "list.csv").write_text("filepath,title\n" + "".join(f"{name},a {name}\n" for name in names))
    (tmp_path / "c.json").write_text(
        json.dumps(
            {
                "images": [{"id": name, "file_name": name} for name in names],
                "annotations": [{"image_id": name, "caption": f"c {name}"} for name in names],
            }
        )
    )
    parts = [
        str(write_tar(pairs(5))),
        f"{tmp_path}/list.csv",
        f"coco:{tmp_path}/c.json@{tmp_path}",
        f"folder:{tmp_path}/classes",
        "samples:emoji/test",
    ]
    dataset = open_dataset(" + ".join(parts), "train", 20)
    assert [source.num_samples for source in dataset.sources] == [4, 4, 4, 4, 4]
    assert dataset.task is None
    assert dataset.text(14).label == "a"


def test_every_part_counts_its_unusable_captions(write_tar: WriteTar, pairs: Pairs) -> None:
    """A part is refused for its own share, however many good captions the others have."""
    few = write_tar(pairs(30) | {"k003.txt": b""}, "few.tar")
    some = write_tar(pairs(30, start=50) | {"k051.json": b'{"captions": [null]}', "k052.txt": b" "}, "some.tar")
    with pytest.warns(UserWarning, match="left out captions of"):
        mixture = open_dataset(f"{few} + {some}*2", "train")
    assert len(mixture) == 57
    assert mixture.reading.left_out == {"blank": 2, "null": 1}
    assert len(mixture.reading.notes) == 2
    bad = write_tar(pairs(30) | {f"k{number:03d}.txt": b"" for number in range(6)}, "bad.tar")
    with pytest.raises(ValueError, match=r"too many captions of '.*bad\.tar' cannot be used, 6 of 30"):
        open_dataset(f"{some} + {bad}*0.01", "train")


def test_images_to_judge_a_mixture_by_are_of_all_its_parts(write_tar: WriteTar, pairs: Pairs) -> None:
    parts = [ShardDataset([write_tar(pairs(number), f"{number}.tar")]) for number in (40, 10)]
    found = Mixture(parts, [1, 1]).probed(10)
    assert found == [*parts[0].probed(8), *(40 + index for index in parts[1].probed(2))]
