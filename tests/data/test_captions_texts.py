"""Which caption counts, and what becomes of odd bytes and types."""

import json

import pytest

from workbench.data.captions import Texts, has_line_break, lines_of, read_texts


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


def test_half_characters_of_json_escapes_become_printable() -> None:
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
def test_a_sample_whose_json_cannot_be_used_is_left_out_with_a_line(content: bytes) -> None:
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
def test_what_is_no_caption_is_left_out_by_reason_and_words_stay_words(
    record: dict[str, object], captions: tuple[str, ...], reasons: list[str]
) -> None:
    texts = read_texts(None, document(**record))
    assert texts.captions == captions
    assert [reason for reason, _ in texts.left_out] == reasons


def test_lines_of_a_text() -> None:
    assert list(lines_of("one\n\n two \r\nthree\rfour")) == ["one", "two", "three", "four"]
    assert has_line_break("a\nb")
    assert not has_line_break("a b\u2028c")
