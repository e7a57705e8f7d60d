"""The rows of a table of text, and which of its quotation marks are quoting.

``csv`` takes a quotation mark at the start of a field for an opening one, and reads on through any number of rows until
it finds another. Captions begin with one often enough, and most TSV files are written without any quoting. So a field
may only run over a line break where none of the lines that it would take in is a row itself.
"""

import csv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TextIO

from workbench.data.tar_index import PICTURE_EXTENSIONS

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
    kinds = {*PICTURE_EXTENSIONS} if ends_with_name else {*PICTURE_EXTENSIONS, _kind(taken[0], layout)}
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
