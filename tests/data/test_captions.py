"""Counts of captions against brute force, and the parsing of texts."""

import json
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.captions import Texts, captions_of, has_line_break, lines_of, most_shared, read_texts, share_filling
from workbench.data.dataset import Dataset, Sample, SampleText
from workbench.data.sources.tar import ShardDataset


class InMemoryCaptions(Dataset):
    """Captions without images, with optional groups."""

    def __init__(self, *captions: tuple[str, ...], groups: list[str] | None = None) -> None:
        self.fingerprint = ""
        self._captions = captions
        self._groups = groups or [str(index) for index in range(len(captions))]

    def __len__(self) -> int:
        return len(self._captions)

    def __getitem__(self, index: int) -> Sample:
        raise NotImplementedError

    def text(self, index: int) -> SampleText:
        return SampleText(str(index), self._captions[index], self._groups[index], None)


def test_counts() -> None:
    dataset = InMemoryCaptions(("a dog", "a b c"), ("a dog",), ("a tree \ufffd",), ("a dog",), ("one",))
    captions = captions_of(dataset)
    assert captions.num_distinct == 4
    assert captions.num_words_M.tolist() == [2, 3, 2, 3, 2, 1]
    assert captions.num_sharing_M.tolist() == [3, 1, 3, 1, 3, 1]
    assert captions.num_pairs_sharing == 3
    assert captions.num_undecoded == 1
    assert captions.first == "a dog"
    assert most_shared(dataset, captions) == [("a dog", 3)]


def test_counts_of_a_sample() -> None:
    dataset = InMemoryCaptions(*[(f"number {index % 4}", "extra") for index in range(101)])
    captions = captions_of(dataset, 51)  # every second image
    assert len(captions.group_N) == 51
    assert captions.owner_M.tolist() == [number for number in range(51) for _ in range(2)]
    assert captions.num_distinct == 3
    assert captions.false_negative_share == captions_of(InMemoryCaptions(*dataset._captions[::2])).false_negative_share
    assert len(captions_of(dataset, 101).group_N) == len(captions_of(dataset, 500).group_N) == 101


CAPTIONS = st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map(tuple), min_size=2, max_size=12)


@given(captions=CAPTIONS)
def test_false_negatives_by_brute_force(captions: list[tuple[str, ...]]) -> None:
    """Over all ordered pairs of images, and every caption that may be drawn of each."""
    pairs = list(permutations(captions, 2))
    expected = sum(sum(a == b for a in one for b in other) / len(one) / len(other) for one, other in pairs) / len(pairs)
    assert captions_of(InMemoryCaptions(*captions)).false_negative_share == pytest.approx(expected, abs=1e-12)


@given(captions=CAPTIONS, data=st.data())
def test_the_ceiling_by_brute_force(captions: list[tuple[str, ...]], data: st.DataObject) -> None:
    """A caption's images are those that have it; which of them comes first is chance."""
    groups = data.draw(st.lists(st.sampled_from("xyz"), min_size=len(captions), max_size=len(captions)))
    chances = []
    for owner, own in enumerate(captions):
        for caption in own:
            alike = [index for index, other in enumerate(captions) if caption in other]
            chances.append(sum(groups[index] == groups[owner] for index in alike) / len(alike))
    found = captions_of(InMemoryCaptions(*captions, groups=groups)).ceiling
    assert found == pytest.approx(sum(chances) / len(chances))


def test_the_ceiling_is_that_of_blocks_of_a_thousand() -> None:
    """A caption that repeats only in the next thousand is no false negative for evaluation."""
    apart = InMemoryCaptions(*((str(index % 1000),) for index in range(2000)))
    assert captions_of(apart).ceiling == 1
    assert captions_of(apart).num_pairs_sharing == 2000
    beside = InMemoryCaptions(*((str(index // 2),) for index in range(2000)))
    assert captions_of(beside).ceiling == 0.5


def test_images_of_one_group_are_no_false_negatives() -> None:
    assert captions_of(InMemoryCaptions(("a",), ("a",), groups=["g", "g"])).ceiling == 1
    assert captions_of(InMemoryCaptions(("a",), ("a",))).ceiling == 0.5


def test_a_single_pair() -> None:
    captions = captions_of(InMemoryCaptions(("a",)))
    assert (captions.false_negative_share, captions.ceiling, captions.num_pairs_sharing) == (0, 1, 0)


def test_share_of_filled_rows() -> None:
    dataset = InMemoryCaptions(*(("word " * number,) for number in range(1, 11)))

    def tokenize(captions: list[str]) -> torch.Tensor:
        return torch.tensor(
            [[1] * min(8, caption.count("word")) + [0] * (8 - caption.count("word")) for caption in captions]
        )

    assert share_filling(dataset, tokenize) == 0.3

    def padded_with_the_end_token(captions: list[str]) -> torch.Tensor:  # as SigLIP's tokenizer
        rows = [[5] * min(7, caption.count("word")) for caption in captions]
        return torch.tensor([row + [1] * (8 - len(row)) for row in rows])

    assert share_filling(dataset, padded_with_the_end_token) == 0.4


def test_of_shards(write_tar: Callable[..., Path], pairs: Callable[..., dict[str, bytes]]) -> None:
    record = json.dumps({"captions": ["caption 0", "caption 2"]}).encode()
    captions = captions_of(ShardDataset([write_tar(pairs(3) | {"k001.json": record})]))
    assert captions.owner_M.tolist() == [0, 1, 1, 2]
    assert captions.num_pairs_sharing == 3


def document(**record: object) -> bytes:
    return json.dumps(record).encode()


@pytest.mark.parametrize(
    ("txt", "record", "captions"),
    [
        (b"from txt", None, ("from txt",)),
        (None, {"caption": "from json"}, ("from json",)),
        (b"from txt", {"caption": "from json"}, ("from txt",)),
        (b"from txt", {"captions": ["one", "two"], "caption": "three"}, ("one", "two")),
        (b"from txt", {"captions": None}, ("from txt",)),
        (None, {"caption": None}, ()),
        (None, {"captions": ["", " \n", "kept "]}, ("kept",)),
        (b" \n\t", None, ()),
        (None, None, ()),
    ],
)
def test_precedence(txt: bytes | None, record: dict[str, object] | None, captions: tuple[str, ...]) -> None:
    assert read_texts(txt, None if record is None else document(**record)).captions == captions


def test_group_and_class_may_be_numbers() -> None:
    assert read_texts(None, document(caption="a", group=7, **{"class": 0})) == Texts(("a",), "7", "0")
    assert read_texts(b"a", document(group="")) == Texts(("a",), None, None, is_txt=True)


@pytest.mark.parametrize(
    ("txt", "caption"),
    [
        (b"caf\xe9 noir", "caf\ufffd noir"),
        (b"\xef\xbb\xbfwith a mark", "with a mark"),
        (b"nul \x00 and \x1b[31m stay", "nul \x00 and \x1b[31m stay"),
    ],
)
def test_odd_bytes(txt: bytes, caption: str) -> None:
    assert read_texts(txt, None).captions == (caption,)


def test_lone_surrogates_become_printable() -> None:
    texts = read_texts(None, rb'{"caption": "half \ud83d here", "group": "\ud83d"}')
    assert texts == Texts(("half ? here",), "?", None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1, 2]",
        b"[" * 100_000,
        document(caption="a", group=[1]),
        document(caption="a", **{"class": True}),
    ],
)
def test_unusable_json_is_left_out_with_a_message(content: bytes) -> None:
    for txt in (None, b"a caption"):
        texts = read_texts(txt, content)
        [(reason, line)] = texts.left_out
        assert (texts.captions, reason) == ((), "unusable JSON")
        assert line
        assert "\n" not in line


@pytest.mark.parametrize(
    ("record", "captions", "reasons"),
    [
        ({"caption": None}, (), ["null"]),
        ({"caption": 3}, (), ["not text"]),
        ({"caption": float("nan")}, (), ["not text"]),
        ({"caption": " \n"}, (), ["blank"]),
        ({"captions": ["", None, 2, ["x"], "kept"]}, ("kept",), ["blank", "null", "not text", "not text"]),
        ({"captions": "one"}, (), ["not a list"]),
        ({"captions": []}, (), ["missing"]),
        ({}, (), ["missing"]),
        ({"caption": "None"}, ("None",), []),
        ({"captions": ["null", "nan", "N/A"]}, ("null", "nan", "N/A"), []),
    ],
)
def test_unusable_captions_are_left_out_by_reason(
    record: dict[str, object], captions: tuple[str, ...], reasons: list[str]
) -> None:
    texts = read_texts(None, document(**record))
    assert texts.captions == captions
    assert [reason for reason, _ in texts.left_out] == reasons


def test_lines_of_a_text() -> None:
    assert list(lines_of("one\n\n two \r\nthree\rfour")) == ["one", "two", "three", "four"]
    assert has_line_break("a\nb")
    assert not has_line_break("a b\u2028c")
