"""What a sample's texts say: ``key.txt`` and ``key.json`` -> captions, group and class."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

LeftOut = tuple[str, str]  # why a caption cannot be used, and a line about it
_LINE_END = re.compile(r"[\r\n]+")


class Texts(NamedTuple):
    """The text of one sample.

    ``captions`` is empty where none can be used, and ``left_out`` then says why. ``is_txt``: the caption is the whole
    of a .txt, each line of which may be a caption of its own.
    """

    captions: tuple[str, ...]
    group: str | None = None
    label: str | None = None
    is_txt: bool = False
    left_out: tuple[LeftOut, ...] = ()


def read_texts(txt: bytes | None, document: bytes | None) -> Texts:
    """The captions are JSON ``captions``, else the .txt, else JSON ``caption``.

    ``group`` and ``class`` come from JSON. Bytes that are not UTF-8 become replacement characters. A caption that is
    blank, null or no string is left out, and so is a sample whose JSON cannot be used.
    """
    try:
        record = _read_record(document) if document is not None else {}
        group, label = _name(record, "group"), _name(record, "class")
    except ValueError as error:
        return Texts((), left_out=(("unusable JSON", str(error)),))
    listed = record.get("captions")
    is_txt = listed is None and txt is not None
    if listed is None:
        listed = [_decoded(txt)] if txt is not None else [record["caption"]] if "caption" in record else []
    if not isinstance(listed, list):
        return Texts((), group, label, left_out=(("not a list", f'"captions" is {_quoted(listed)}'),))
    kept, left_out = sorted_out(listed)
    if not listed:
        left_out = (("missing", 'there is no .txt, and no "caption" in a .json'),)
    return Texts(kept, group, label, is_txt, left_out)


def sorted_out(listed: list[Any]) -> tuple[tuple[str, ...], tuple[LeftOut, ...]]:
    """Captions as text without white space at the ends, and those that are none."""
    kept, left_out = [], []
    for caption in listed:
        text = cleaned(caption) if isinstance(caption, str) else ""
        if text:
            kept.append(text)
        else:
            left_out.append(why_left_out(caption))
    return tuple(kept), tuple(left_out)


def why_left_out(caption: Any) -> LeftOut:
    """Why something that stands in a caption's place is none."""
    if isinstance(caption, str):
        return "blank", "the caption is blank"
    return ("null" if caption is None else "not text"), f"the caption is {_quoted(caption)}"


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text that are not blank."""
    return (line.strip() for line in _LINE_END.split(text) if line.strip())


def has_line_break(text: str) -> bool:
    """Whether a text has more than one line."""
    return _LINE_END.search(text) is not None


def cleaned(text: str) -> str:
    """Without white space at the ends, and without the half characters that JSON escapes can smuggle in."""
    return text.encode("utf-8", errors="replace").decode("utf-8").strip()


def _read_record(document: bytes) -> dict[str, Any]:
    try:
        record = json.loads(_decoded(document))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the JSON cannot be read ({error})") from error
    if not isinstance(record, dict):
        raise ValueError('the JSON is not an object such as {"caption": "a red bus"}')
    return record


def _decoded(text: bytes) -> str:
    return text.decode("utf-8-sig", errors="replace")


def _quoted(value: Any) -> str:
    return json.dumps(value)[:40]


def _name(record: dict[str, Any], field: str) -> str | None:
    """A group or a class; data sets number them as often as they name them."""
    value = record.get(field)
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        raise ValueError(f'"{field}" must be a string or a whole number (got {_quoted(value)})')
    return None if value is None else cleaned(str(value)) or None
