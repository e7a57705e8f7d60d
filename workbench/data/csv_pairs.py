"""``FILE.csv``, ``FILE.tsv`` and ``FILE.txt``: pairs as CLIP-KD and open_clip list them, a path and a caption a row."""

import csv
import re
from pathlib import Path
from typing import TextIO

from workbench.data.bar import open_with_bar
from workbench.data.forms import existing
from workbench.data.picture_files import PictureFiles, PictureList, begins_at
from workbench.data.reading import caption_tally, reading_of
from workbench.data.rows import Layout, rows_of
from workbench.data.texts import cleaned

SEPARATORS = "\t,;|"
PICTURE_COLUMNS = ("filepath", "image", "image_path", "path", "file", "filename", "file_name", "image_name")
CAPTION_COLUMNS = ("title", "caption", "text", "comment")
IMAGE_FOLDERS = ("images", "Images")  # beside the table, as in Kaggle's Flickr8k
MAX_LISTED = 12
MAX_HEADER = 2**16  # characters
_UNDECODED = re.compile("[\udc80-\udcff]")


def open_csv(spec: str, num_pairs: int = 0) -> PictureFiles:
    """The pictures of a CSV or TSV file with a header.

    The separator is the one that shows the columns: a tab, comma, semicolon or bar. Rows of one path are captions of
    one picture. Relative paths start at the file's folder, or at the working directory or the file's ``images`` folder
    if none of them is found there. Rows without a path or a caption are left out with a warning.

    Args:
        num_pairs: how many pictures at most, the first ones; 0 for all.

    Raises:
        ValueError: no such file, columns that are missing or double, no usable row or too many that are not, or no
            picture where they point.
    """
    path = existing(spec, "file")
    listed, captions = PictureList(num_pairs), caption_tally(f"'{path}'")
    num_rows = 0
    try:
        with open_with_bar(path, _encoding(path), "surrogateescape") as file:
            layout = _layout(file, path)
            for line, fields in rows_of(file, layout, path):
                num_rows += 1
                name, caption = _pair(fields, layout, path)
                if name and caption:
                    listed.add(name, caption)
                else:
                    captions.add(0, [("no path" if caption else "blank", f"line {line}")])
    except UnicodeError:  # only of UTF-16, or what begins like it
        raise _no_text(path) from None
    if not listed:
        raise ValueError(f"'{path}' has no row with both a path and a caption: a row is a picture and what it shows")
    captions.add(num_rows, [])
    reading = reading_of(captions)
    beside = [path.parent / name for name in IMAGE_FOLDERS if (path.parent / name).is_dir()]
    return PictureFiles(
        listed, begins_at(listed, (path.parent, Path.cwd(), *beside), f"'{path}'"), path.name, reading=reading
    )


def _encoding(path: Path) -> str:
    """UTF-8 with or without its mark, or the UTF-16 that spreadsheets write."""
    try:
        with path.open("rb") as file:
            return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read ({error.strerror}): check who may") from error


def _layout(file: TextIO, path: Path) -> Layout:
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
            return Layout(separator, len(names), pictures[0], captions[0])
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


def _pair(fields: list[str], layout: Layout, path: Path) -> tuple[str, str]:
    """Path and caption of a row; empty for what is not there."""
    name = fields[layout.picture].strip() if layout.picture < len(fields) else ""
    if name.startswith(("http://", "https://")):
        raise ValueError(f"'{path}' lists pictures by address, first {name[:80]!r}: download them first")
    return name, _text(fields[layout.caption]) if layout.caption < len(fields) else ""


def _text(field: str) -> str:
    """A caption, with U+FFFD for bytes that are not UTF-8."""
    return cleaned(field if field.isascii() else _UNDECODED.sub("\ufffd", field))
