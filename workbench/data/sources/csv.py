"""``FILE.csv``, ``FILE.tsv`` and ``FILE.txt``: pairs as CLIP-KD and open_clip list them, a path and a caption a row."""

import csv
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TextIO

from workbench.data.captions import cleaned
from workbench.data.dataset import existing
from workbench.data.sources.files import ImageFiles, ImageList, begins_at
from workbench.data.sources.tar_index import IMAGE_EXTENSIONS
from workbench.data.unusable import caption_tally, reading_of
from workbench.progress import open_with_bar

# The rows of a table of text, and which of its quotation marks are quoting.
#
# ``csv`` takes a quotation mark at the start of a field for an opening one, and reads on through any number of rows
# until it finds another. Captions often begin with one, and most TSV files are written without any quoting. So a field
# may only run over a line break where none of the lines that it would take in is a row itself.

MAX_LINES = 200  # that a caption in quotation marks may have


class Layout(NamedTuple):
    """Which separator a file has, how many columns, and in which of them picture and caption stand."""

    separator: str
    num_columns: int
    picture: int
    caption: int


class Row(NamedTuple):
    """The fields of a row, and the number of its first line."""

    line: int
    fields: list[str]


def rows_of(file: TextIO, layout: Layout, path: Path) -> Iterator[Row]:
    """The rows after the header that are not blank.

    Quotation marks around a whole field are taken off. One that is never closed, or that would take in other rows, is
    a letter in a TSV and an error elsewhere. A field with letters after its closing mark was not meant as quoted.

    Raises:
        ValueError: with the line: more fields than columns, or a quotation mark that is left open.
    """
    lines = _Lines(file)
    for line in lines:
        start = lines.number
        text = line.rstrip("\r\n")
        if not text:
            continue
        fields = text.split(layout.separator)
        if '"' in text:
            fields = _quoted(text, layout) or _over_lines(line, lines, layout, path) or fields
        if len(fields) > layout.num_columns:
            raise ValueError(
                f"'{path}', line {start}: {len(fields)} fields, where the header has "
                f"{layout.num_columns}: put captions with the separator in them in quotation marks"
            )
        yield Row(start, fields)


class _Lines:
    """Lines with their numbers; some can be looked at ahead of their turn."""

    def __init__(self, file: TextIO) -> None:
        self._lines = iter(file)
        self.number = 1  # the header is read already

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        return line

    def put_back(self, lines: list[str]) -> None:
        """Let these come again."""
        self._lines = chain(lines, self._lines)
        self.number -= len(lines)


def _quoted(text: str, layout: Layout) -> list[str] | None:
    """The fields of one row if its quoting is whole, and in a TSV gives as many as there are columns; else None."""
    try:
        fields = next(csv.reader([text], delimiter=layout.separator, strict=True))
    except csv.Error:
        return None
    return fields if layout.separator != "\t" or len(fields) == layout.num_columns else None


def _over_lines(line: str, lines: _Lines, layout: Layout, path: Path) -> list[str] | None:
    """The fields of a row whose caption has line breaks in quotation marks; None where it stands on one line.

    Raises:
        ValueError: its quotation mark is left open, where the separator is no tab.
    """
    if not _is_open(line, layout):
        return None
    start, taken = lines.number, [line]
    if fields := _joined(taken, lines, layout):
        return fields
    if layout.separator != "\t":
        raise ValueError(
            f"'{path}', line {start}: is a quotation mark left open there? Its field runs on into other lines: double "
            "every quotation mark that belongs to a caption, and put the caption in quotation marks"
        )
    lines.put_back(taken[1:])
    return None


def _joined(taken: list[str], lines: _Lines, layout: Layout) -> list[str] | None:
    """The fields of a row of several lines; None where it would take in another row. Adds what it reads to ``taken``.

    Where the image's column comes before the caption's, no line but the first can look like a row; else none but the
    last.
    """
    ends_with_name = layout.picture > layout.caption
    kinds = {*IMAGE_EXTENSIONS} if ends_with_name else {*IMAGE_EXTENSIONS, _kind(taken[0], layout)}
    if ends_with_name and _is_row(taken[0], layout, kinds):
        return None
    for more in lines:
        taken.append(more)
        is_row = _is_row(more, layout, kinds)
        may_end = '"' in more and (ends_with_name or not is_row)
        if may_end and (fields := _quoted("".join(taken).rstrip("\r\n"), layout)):
            return fields
        if is_row or len(taken) > MAX_LINES:
            return None
    return None


def _is_open(line: str, layout: Layout) -> bool:
    """Whether a quotation mark that begins a field is not closed on its line."""
    try:
        list(csv.reader([line], delimiter=layout.separator, strict=True))
    except csv.Error as error:
        return "unexpected end of data" in str(error)
    return False


def _is_row(line: str, layout: Layout, kinds: set[str]) -> bool:
    """Whether a line is a row by itself: as many fields as columns and, but for tabs, an image's name in its place."""
    if len(line.rstrip("\r\n").split(layout.separator)) != layout.num_columns:
        return False
    return layout.separator == "\t" or _kind(line, layout) in kinds


def _kind(line: str, layout: Layout) -> str:
    """The file ending of a row's image; empty for a name without one, and the text itself where it is no name."""
    name = "".join(line.rstrip("\r\n").split(layout.separator)[layout.picture : layout.picture + 1]).strip(' "')
    _, dot, ending = name.rpartition(".")
    return ending.lower() if dot else "" if name and " " not in name else name


SEPARATORS = "\t,;|"
IMAGE_COLUMNS = ("filepath", "image", "image_path", "path", "file", "filename", "file_name", "image_name")
CAPTION_COLUMNS = ("title", "caption", "text", "comment")
IMAGE_FOLDERS = ("images", "Images")  # beside the table, as in Kaggle's Flickr8k
MAX_LISTED = 12
MAX_HEADER = 2**16  # characters
_UNDECODED = re.compile("[\udc80-\udcff]")


def open_csv(spec: str, num_pairs: int = 0) -> ImageFiles:
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
    listed, captions = ImageList(num_pairs), caption_tally(f"'{path}'")
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
    return ImageFiles(
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
        pictures = [index for index, name in enumerate(names) if name in IMAGE_COLUMNS]
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
