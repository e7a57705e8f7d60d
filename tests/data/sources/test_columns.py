"""The choice of columns: by name and type, or named in the SPEC."""

import json

import pyarrow as pa
import pytest

from tests.data.sources.hub_files import IMAGE_TYPE
from workbench.data.sources.columns import Columns, find_columns, parse_table_spec

TEXT, BYTES, LIST = pa.string(), pa.binary(), pa.list_(pa.string())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"image": IMAGE_TYPE, "caption": TEXT}, ("image", "caption", True)),
        (
            {"image": IMAGE_TYPE, "caption": LIST, "filename": TEXT, "split": TEXT},
            ("image", "caption", True),
        ),  # flickr30k
        ({"key": TEXT, "jpg": BYTES, "caption": TEXT, "url": TEXT}, ("jpg", "caption", True)),  # img2dataset
        ({"Picture": pa.large_binary(), "Text": pa.large_string()}, ("Picture", "Text", True)),
        ({"photo_of_it": BYTES, "text": TEXT}, ("photo_of_it", "text", True)),
        ({"image": BYTES, "thumbnail": BYTES, "text": TEXT}, ("image", "text", True)),
        ({"image_path": TEXT, "sentences": LIST}, ("image_path", "sentences", False)),
        ({"image": TEXT, "text": pa.dictionary(pa.int32(), TEXT)}, ("image", "text", False)),
    ],
)
def test_usual_names_and_types_are_found(fields: dict[str, pa.DataType], expected: tuple[str, str, bool]) -> None:
    found = find_columns(pa.schema(fields), {}, "'a.parquet'")
    assert (found.image, found.caption, found.has_bytes) == expected


@pytest.mark.parametrize(
    ("fields", "named", "message"),
    [
        (
            {"a": TEXT, "b": pa.int64()},
            {},
            r"no column of images: name one, as in PATH#image=COLUMN; its columns are a \(string\)",
        ),
        ({"image": BYTES, "caption": TEXT, "text": TEXT}, {}, "several columns for captions: .*#caption=COLUMN"),
        ({"a": BYTES, "b": BYTES, "text": TEXT}, {}, "several columns for images: .*#image=COLUMN"),
        ({"image": BYTES, "caption": pa.int64()}, {}, "'caption' of 'a.parquet' is not text"),
        ({"image": BYTES, "label": pa.int64()}, {}, "no column of captions"),
        ({"image": BYTES, "text": TEXT}, {"caption": "alt"}, "has no column 'alt'"),
        (
            {"image": BYTES, "n": pa.int64(), "text": TEXT},
            {"image": "n"},
            "'n' of 'a.parquet' has neither image bytes nor paths",
        ),
        ({f"c{number}": TEXT for number in range(99)}, {}, r"c23 \(string\), \.\.\.$"),
    ],
)
def test_what_cannot_be_found_lists_the_columns_there_are(
    fields: dict[str, pa.DataType], named: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}") as refused:
        find_columns(pa.schema(fields), named, "'a.parquet'")
    assert f"{next(iter(fields))} (" in str(refused.value)


def test_columns_that_are_named_decide() -> None:
    schema = pa.schema({"image": BYTES, "other": BYTES, "caption": TEXT, "text": TEXT})
    assert find_columns(schema, {"image": "other", "caption": "text"}, "") == Columns("other", "text")


def test_class_names_stand_in_for_captions() -> None:
    features = {"label": {"_type": "ClassLabel", "names": ["red_fox", "ibex"]}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pa.schema({"image": IMAGE_TYPE, "label": pa.int64()}, metadata)
    assert find_columns(schema, {}, "") == Columns("image", "", "label", ("red fox", "ibex"))
    with_caption = schema.append(pa.field("caption", TEXT))
    assert find_columns(with_caption, {}, "").label == ""
    for broken in ("[]", "{", '{"info": {"features": {"label": 3}}}'):
        with pytest.raises(ValueError, match="no column of captions"):
            find_columns(schema.with_metadata({"huggingface": broken}), {}, "")


@pytest.mark.parametrize(
    ("text", "path", "columns", "folder"),
    [
        ("a.parquet", "a.parquet", {}, ""),
        ("d/*.parquet#image=x,caption=alt text", "d/*.parquet", {"image": "x", "caption": "alt text"}, ""),
        ("a.parquet#caption=b@.", "a.parquet", {"caption": "b"}, "."),
    ],
)
def test_a_spec_names_path_columns_and_folder(text: str, path: str, columns: dict[str, str], folder: str) -> None:
    assert parse_table_spec(text) == (path, columns, folder)
