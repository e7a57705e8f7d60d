"""Which columns of a Parquet or Arrow table are images and captions: by name and type, or named in the SPEC."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from workbench.data.captions import cleaned
from workbench.data.dataset import ZeroShotTask, existing
from workbench.data.sources.csv import CAPTION_COLUMNS, IMAGE_COLUMNS
from workbench.data.sources.tables import has_bytes
from workbench.data.sources.tar_index import IMAGE_EXTENSIONS
from workbench.prompts import CAPTION, words_of

if TYPE_CHECKING:
    import pyarrow as pa

BYTES_COLUMNS = ("image", "img", "picture", "photo", "pixels", "image_bytes", "bytes", *IMAGE_EXTENSIONS)
TEXT_COLUMNS = (*CAPTION_COLUMNS, "captions", "texts", "titles", "sentences", "alt_text", "alt")
LABEL_COLUMNS = ("label", "labels", "class", "fine_label")
MAX_LISTED = 24


class TableSpec(NamedTuple):
    """The parts of ``PATH[#image=COLUMN,caption=COLUMN][@DIR]``."""

    path: str
    columns: dict[str, str]
    folder: str  # to which paths of images are relative; empty if not given


def parse_table_spec(text: str) -> TableSpec:
    """Splits a SPEC into path, named columns and image folder.

    Raises:
        ValueError: a column is named for something other than ``image`` or ``caption``.
    """
    if Path(text).exists():
        return TableSpec(text, {}, "")
    before, at, folder = text.rpartition("@")
    path, _, named = (before if at else text).partition("#")
    columns = {}
    for item in filter(None, named.split(",")):
        part, equals, column = item.partition("=")
        if part not in ("image", "caption") or not equals or not column:
            raise ValueError(f"'{text}': name columns as in PATH#image=photo,caption=alt_text (got '{item}')")
        columns[part] = column
    if at:
        existing(folder, "folder")
    return TableSpec(path, columns, folder if at else "")


@dataclass(frozen=True)
class Columns:
    """The columns that are read.

    Attributes:
        image: bytes, a path, or the Hub's struct of both.
        caption: a text or a list of texts; empty if captions are made from class names.
        label: the column of class numbers; empty if there are captions.
        classes: the name of each class.
        has_bytes: whether the image column has bytes, which may be null where it has paths, too.
    """

    image: str
    caption: str
    label: str = ""
    classes: tuple[str, ...] = ()
    has_bytes: bool = True

    @property
    def task(self) -> ZeroShotTask | None:
        """Zero-shot classification, if captions are made from class names."""
        return ZeroShotTask(tuple((name,) for name in self.classes), (CAPTION,)) if self.label else None


def find_columns(schema: "pa.Schema", named: dict[str, str], source: str) -> Columns:
    """The columns of a schema, by the SPEC's names, else by usual names and types.

    Without a column of captions, one of class numbers whose names the Hub's metadata lists stands in.

    Raises:
        ValueError: none or several candidates; lists the columns there are.
    """
    for column in named.values():
        if column not in schema.names:
            raise ValueError(f"{source} has no column '{column}': {_listed(schema)}")
    image = named.get("image") or _only("image", _image_columns(schema), schema, source)
    in_table = has_bytes(schema.field(image).type)
    if not (in_table or _is_text(schema.field(image).type)):
        raise ValueError(f"the column '{image}' of {source} has neither image bytes nor paths: {_listed(schema)}")
    captions = [name for name in schema.names if name.lower() in TEXT_COLUMNS and name != image]
    classes = _class_names(schema)
    if not captions and "caption" not in named and len(classes) == 1:
        [(label, names)] = classes.items()
        return Columns(image, "", label, names, in_table)
    caption = named.get("caption") or _only("caption", captions, schema, source)
    if not _is_text(schema.field(caption).type):
        raise ValueError(f"the column '{caption}' of {source} is not text or a list of texts: {_listed(schema)}")
    return Columns(image, caption, has_bytes=in_table)


def _image_columns(schema: "pa.Schema") -> list[str]:
    """Columns of image bytes; if there are none, columns of paths."""
    with_bytes = [name for name in schema.names if has_bytes(schema.field(name).type)]
    usual = [name for name in with_bytes if name.lower() in BYTES_COLUMNS]
    names = (*IMAGE_COLUMNS, *BYTES_COLUMNS)
    paths = [name for name in schema.names if name.lower() in names and _is_text(schema.field(name).type)]
    return usual or with_bytes or paths


def _only(part: str, candidates: Sequence[str], schema: "pa.Schema", source: str) -> str:
    """The one candidate for a part of a pair."""
    if len(candidates) == 1:
        return candidates[0]
    found = f"several columns for {part}s" if candidates else f"no column of {part}s"
    raise ValueError(f"{source} has {found}: name one, as in PATH#{part}=COLUMN; {_listed(schema)}")


def _is_text(kind: "pa.DataType") -> bool:
    """Whether a type is text, a list of texts, or a dictionary of texts."""
    import pyarrow.types as kinds

    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind))


def _class_names(schema: "pa.Schema") -> dict[str, tuple[str, ...]]:
    """The class names of each label column, which `datasets` writes into the schema's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if column in LABEL_COLUMNS and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):  # no such metadata, or of another form
        return {}
    return {
        column: tuple(words_of(cleaned(name)) or name for name in listed)
        for column, listed in names.items()
        if column in schema.names and listed
    }


def _listed(schema: "pa.Schema") -> str:
    """The columns that there are, with their types, for an error message."""
    columns = [f"{field.name} ({str(field.type)[:40]})" for field in schema]
    more = ", ..." if len(columns) > MAX_LISTED else ""
    return f"its columns are {', '.join(columns[:MAX_LISTED]) or 'none'}{more}"
