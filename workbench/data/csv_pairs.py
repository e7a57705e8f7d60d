"""``FILE.csv`` and ``FILE.tsv``: pairs as CLIP-KD and open_clip list them, a picture's path and its caption a row."""

import csv
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from workbench.data.bar import open_with_bar
from workbench.data.forms import existing
from workbench.data.picture_files import PictureFiles, PictureList, begins_at
from workbench.data.texts import cleaned

SEPARATORS = "\t,;|"
PICTURE_COLUMNS = ("filepath", "image", "image_path", "path", "file", "filename", "file_name")
CAPTION_COLUMNS = ("title", "caption", "text")
MAX_LISTED = 12
MAX_HEADER = 2**16  # characters
_UNDECODED = re.compile("[\udc80-\udcff]")


class _Layout(NamedTuple):
    """Which separator a file has, how many columns, and in which of them picture and caption stand."""

    separator: str
    num_columns: int
    picture: int
    caption: int


def open_csv(spec: str, num_pairs: int = 0) -> PictureFiles:
    """The pictures of a CSV or TSV file with a header.

    The separator is the one that shows the columns: a tab, comma, semicolon or bar. Rows of one path are captions of
    one picture. Relative paths start at the file's folder, or at the working directory if none of them is found there.
    Rows without a path or a caption are left out with a warning.

    Args:
        num_pairs: how many pictures at most, the first ones; 0 for all.

    Raises:
        ValueError: no such file, columns that are missing or double, no usable row, or no picture where they point.
    """
    path = existing(spec, "file")
    listed = PictureList(num_pairs)
    left_out: list[int] = []
    try:
        with open_with_bar(path, _encoding(path), "surrogateescape") as file:
            layout = _layout(file, path)
            for line, name, caption in _rows(file, layout, path):
                if name and caption:
                    listed.add(name, caption)
                else:
                    left_out.append(line)
    except UnicodeError:  # only of UTF-16, or what begins like it
        raise _no_text(path) from None
    if not listed:
        raise ValueError(f"'{path}' has no row with both a path and a caption: a row is a picture and what it shows")
    if left_out:
        warnings.warn(
            f"left out {len(left_out):,} rows of '{path}' without a picture or a caption, first line {left_out[0]}",
            stacklevel=3,
        )
    return PictureFiles(listed, begins_at(listed, (path.parent, Path.cwd()), f"'{path}'"), path.name)


def _encoding(path: Path) -> str:
    """UTF-8 with or without its mark, or the UTF-16 that spreadsheets write."""
    try:
        with path.open("rb") as file:
            return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read ({error.strerror}): check who may") from error


def _layout(file: TextIO, path: Path) -> _Layout:
    """What the header says; the file stands at the first row afterwards.

    Raises:
        ValueError: it is no text, or does not name one column of each kind; lists the columns that it names.
    """
    header = file.readline(MAX_HEADER)
    columns = {separator: _columns(header, separator) for separator in SEPARATORS}
    for separator, names in columns.items():
        pictures = [index for index, name in enumerate(names) if name in PICTURE_COLUMNS]
        captions = [index for index, name in enumerate(names) if name in CAPTION_COLUMNS]
        if len(pictures) == len(captions) == 1:
            return _Layout(separator, len(names), pictures[0], captions[0])
    if len(header) == MAX_HEADER or not header.rstrip().replace("\t", " ").isprintable():
        raise _no_text(path)
    found = max(columns.values(), key=len)
    listed = ", ".join(repr(name[:40]) for name in found[:MAX_LISTED]) if header.strip() else "none, for it is empty"
    raise ValueError(
        f"'{path}' needs one column 'filepath' and one 'title' or 'caption' in its first line, separated by a comma "
        f"or a tab; its columns are {listed}"
    )


def _no_text(path: Path) -> ValueError:
    return ValueError(
        f"'{path}' is no table of text: its first line must name the columns, as 'filepath,title' does, in UTF-8"
    )


def _columns(header: str, separator: str) -> list[str]:
    try:
        fields = next(csv.reader([header], delimiter=separator), [])
    except csv.Error:
        return []
    return [field.strip().lower() for field in fields]


def _rows(file: TextIO, layout: _Layout, path: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, path and caption of every row that is not blank; empty for what is not there."""
    rows = csv.reader(file, delimiter=layout.separator)
    try:
        for row in rows:
            if len(row) > layout.num_columns:
                raise ValueError(
                    f"'{path}', line {rows.line_num + 1}: {len(row)} fields, where the header has "
                    f"{layout.num_columns}: put captions with the separator in them in quotation marks"
                )
            name = row[layout.picture].strip() if layout.picture < len(row) else ""
            caption = _text(row[layout.caption]) if layout.caption < len(row) else ""
            if name.startswith(("http://", "https://")):
                raise ValueError(f"'{path}' lists pictures by address, first {name[:80]!r}: download them first")
            if row:
                yield rows.line_num + 1, name, caption
    except csv.Error as error:
        raise ValueError(
            f"'{path}' cannot be read near line {rows.line_num + 1} ({error}): is a quotation mark left open there?"
        ) from error


def _text(field: str) -> str:
    """A caption, with U+FFFD for bytes that are not UTF-8."""
    return cleaned(field if field.isascii() else _UNDECODED.sub("\ufffd", field))
