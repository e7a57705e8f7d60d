"""What a sample's texts say: ``key.txt`` and ``key.json`` -> captions, group and class."""

import json
from typing import Any, NamedTuple


class Texts(NamedTuple):
    """The text of one sample; ``captions`` is empty where there is none but white space."""

    captions: tuple[str, ...]
    group: str | None
    label: str | None


def read_texts(txt: bytes | None, document: bytes | None) -> Texts:
    """The captions are JSON ``captions``, else the .txt, else JSON ``caption``.

    ``group`` and ``class`` come from JSON. Bytes that are not UTF-8 become replacement characters, and blank
    captions are left out.

    Raises:
        ValueError: the JSON is not an object, or one of these four has the wrong type.
    """
    record = _read_record(document) if document is not None else {}
    captions = record.get("captions")
    if captions is None:
        single = _decoded(txt) if txt is not None else record.get("caption")
        captions = [] if single is None else [single]
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError('"captions" must be a list of strings, and "caption" a string')
    kept = (cleaned(caption) for caption in captions)
    return Texts(tuple(caption for caption in kept if caption), _name(record, "group"), _name(record, "class"))


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


def _name(record: dict[str, Any], field: str) -> str | None:
    """A group or a class; data sets number them as often as they name them."""
    value = record.get(field)
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        raise ValueError(f'"{field}" must be a string or a whole number (got {json.dumps(value)[:40]})')
    return None if value is None else cleaned(str(value)) or None
