"""``FILE.csv``, ``FILE.tsv`` and ``FILE.txt``: pairs as CLIP-KD and open_clip list them, a path and a caption a row."""

import csv
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TextIO

from workbench.data.captions import cleaned
from workbench.data.dataset import existing
from workbench.data.sources.files import ImageFiles, ImageList, base_folder
from workbench.data.sources.tar_index import IMAGE_EXTENSIONS
from workbench.data.unusable import BadImageCount, caption_tally, reading_of
from workbench.progress import open_with_bar

# Python's csv module treats a quotation mark at the start of a field as opening, and reads on through any number of
# rows until the next one. Captions often start with a quotation mark, and most TSV files are written without quoting.
# So a field may span several lines only if none of these lines is a row itself, and in a TSV a mark is a letter unless
# a writer that quotes must have put it there.

MAX_LINES = 200  # of a quoted caption
_NEEDS_QUOTES = re.compile(r'["\t\r\n]')  # in a field of a TSV


class Layout(NamedTuple):
    """Separator, number of columns, the indices of the image and caption columns, and whether all fields are quoted.

    ``numbers_captions``: image names end in "#" and the number of the caption, which is no part of the name.
    """

    separator: str
    num_columns: int
    image: int
    caption: int
    quotes_all: bool = False
    numbers_captions: bool = False


class Row(NamedTuple):
    """The fields of a row, the number of its first line in the file, and whether quotation marks were removed."""

    line: int
    fields: list[str]
    is_quoted: bool


def rows_of(file: TextIO, layout: Layout, path: Path, first: str = "") -> Iterator[Row]:
    """The rows after the header that are not blank; ``first`` is a row that was read in search of a header.

    Quotation marks around a complete field are removed; in a TSV, only if all fields are quoted, or one of the row has
    a tab, a line break or a doubled mark. An unclosed mark, or one whose field would include other rows, is a plain
    character in a TSV and an error elsewhere. Text after the closing mark means that the field is unquoted. In a table
    of an image and then a caption, further separators belong to the caption.
    """
    lines = _Lines(file)
    if first:
        lines.put_back([first])
    for line in lines:
        start = lines.number
        text = line.rstrip("\r\n")
        if not text:
            continue
        quoted = (_quoted(text, layout) or _over_lines(line, lines, layout, path)) if '"' in text else None
        fields = quoted or text.split(layout.separator)
        if len(fields) > layout.num_columns == 2 and layout.image == 0 and _names_an_image(fields[0]):
            # The lists that CLIP_benchmark downloads for Flickr quote nothing.
            fields, quoted = [fields[0], text.partition(layout.separator)[2]], None
        if len(fields) > layout.num_columns:
            raise ValueError(
                f"'{path}', line {start}: {len(fields)} fields, but the header has "
                f"{layout.num_columns}: put captions with the separator in them in quotation marks"
            )
        yield Row(start, fields, quoted is not None)


def _names_an_image(field: str) -> bool:
    return field.strip().rpartition(".")[2].lower() in IMAGE_EXTENSIONS


class _Lines:
    """Numbered lines; lines that were read ahead can be put back."""

    def __init__(self, file: TextIO) -> None:
        self._lines = iter(file)
        self.number = 1  # of the header, which is read already

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        return line

    def put_back(self, lines: list[str]) -> None:
        self._lines = chain(lines, self._lines)
        self.number -= len(lines)


def _quoted(text: str, layout: Layout) -> list[str] | None:
    """The fields of a row if its quotation marks are balanced and, in a TSV, quote; else None."""
    try:
        fields = next(csv.reader([text], delimiter=layout.separator, strict=True))
    except csv.Error:
        return None
    if layout.separator != "\t":
        return fields
    if len(fields) != layout.num_columns or fields == text.split(layout.separator):  # no mark was removed
        return None
    # Writers quote either all fields, the header's too, or those that cannot be written otherwise.
    is_quoted = layout.quotes_all or any(_NEEDS_QUOTES.search(field) for field in fields)
    return fields if is_quoted else None


def _over_lines(line: str, lines: _Lines, layout: Layout, path: Path) -> list[str] | None:
    """The fields of a row whose quoted caption has line breaks; None if the row is a single line."""
    if not _is_open(line, layout):
        return None
    start, taken = lines.number, [line]
    if fields := _joined(taken, lines, layout):
        return fields
    if layout.separator != "\t":
        raise ValueError(
            f"'{path}', line {start}: unclosed quotation mark, so that the field continues on other lines: double "
            "every quotation mark inside a caption, and put the caption in quotation marks"
        )
    lines.put_back(taken[1:])
    return None


def _joined(taken: list[str], lines: _Lines, layout: Layout) -> list[str] | None:
    """The fields of a row of several lines; None if it would include another row. Appends what it reads to ``taken``.

    If the image column comes before the caption column, only the first line may look like a row; else only the last.
    """
    ends_with_name = layout.image > layout.caption
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
    """Whether a field starts with a quotation mark that its line does not close."""
    try:
        list(csv.reader([line], delimiter=layout.separator, strict=True))
    except csv.Error as error:
        return "unexpected end of data" in str(error)
    return False


def _is_row(line: str, layout: Layout, kinds: set[str]) -> bool:
    """Whether a line is a row by itself: the right number of fields and, unless tab-separated, an image name."""
    if len(line.rstrip("\r\n").split(layout.separator)) != layout.num_columns:
        return False
    if layout.quotes_all and not line.startswith('"'):
        return False
    return layout.separator == "\t" or _kind(line, layout) in kinds


def _kind(line: str, layout: Layout) -> str:
    """The suffix of a row's image name; empty if it has none, and the field itself if it is not a file name."""
    name = "".join(line.rstrip("\r\n").split(layout.separator)[layout.image : layout.image + 1]).strip(' "')
    _, dot, ending = name.rpartition(".")
    return ending.lower() if dot else "" if name and " " not in name else name


SEPARATORS = "\t,;|"
IMAGE_COLUMNS = ("filepath", "image", "image_path", "path", "file", "filename", "file_name", "image_name")
CAPTION_COLUMNS = ("title", "caption", "text", "comment")
# Next to the table: Kaggle's Flickr8k and Flickr30k, and the folders in which both were first published.
IMAGE_FOLDERS = ("images", "Images", "flickr30k_images", "flickr30k-images", "Flicker8k_Dataset")
TOKENS = Layout("\t", 2, 0, 1, numbers_captions=True)  # Flickr's token files: NAME.jpg#0, a tab, and the caption
_TOKEN_ROW = re.compile(rf"[^\t]+\.({'|'.join(IMAGE_EXTENSIONS)})#\d+\t.*", re.IGNORECASE)
MAX_LISTED = 12
MAX_HEADER = 2**16  # characters, and bytes of the first look
_UNDECODED = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of bytes that are not UTF-8


def open_csv(spec: str, num_pairs: int = 0) -> ImageFiles:
    """The images of a CSV or TSV file with a header, or of Flickr's token file, which has none.

    The separator (tab, comma, semicolon or bar) is the one that gives the expected column names. Rows with the same
    path are captions of one image. Relative paths are relative to the file's folder, else to the working directory or
    the file's ``images`` folder. Rows without a path or a caption are left out with a warning.

    Args:
        num_pairs: use only the first so many images; 0 for all.

    Raises:
        ValueError: no such file, missing or duplicate columns, no usable row, too many unusable ones, or none of its
            images found.
    """
    path = existing(spec, "file")
    listed, captions, is_quoted, num_joined = _read(path, num_pairs)
    if is_quoted:
        listed, captions, _, num_joined = _read(path, num_pairs, quotes_all=True)
    joined = f"{num_joined:,} rows of '{path}' have more separators than columns: all after the first is the caption"
    reading = reading_of(captions, joined if num_joined else "")
    image_folders = [path.parent / name for name in IMAGE_FOLDERS if (path.parent / name).is_dir()]
    return ImageFiles(
        listed, base_folder(listed, (path.parent, Path.cwd(), *image_folders), f"'{path}'"), path.name, reading=reading
    )


class _Table(NamedTuple):
    """The pairs of a table, its captions counted, whether all captions had marks, of which some are still there, and
    the number of captions with separators that are not quoted."""

    listed: ImageList
    captions: BadImageCount
    is_quoted: bool
    num_joined: int


def _read(path: Path, num_pairs: int, *, quotes_all: bool = False) -> _Table:
    """Reads a table.

    Args:
        quotes_all: whether to remove such marks in a TSV, whatever its header has.
    """
    listed, captions = ImageList(num_pairs), caption_tally(f"'{path}'")
    num_rows = num_quoted = num_marked = num_joined = 0
    try:
        with open_with_bar(path, *_encoding(path), "surrogateescape") as file:
            layout, first = _layout(file, path, quotes_all)
            for line, fields, is_quoted in rows_of(file, layout, path, first):
                num_rows += 1
                num_quoted += is_quoted
                name, caption = _pair(fields, layout, path)
                num_joined += not is_quoted and layout.separator in caption
                num_marked += not is_quoted and len(caption) > 1 and caption[0] == caption[-1] == '"'
                if name and caption:
                    listed.add(name, caption)
                else:
                    captions.add(0, [("no path" if caption else "blank", f"line {line}")])
    except UnicodeError:  # UTF-16 decoding: for UTF-8, surrogateescape raises nothing
        raise _not_a_table(path) from None
    if not listed:
        raise ValueError(f"'{path}' has no row with both a path and a caption: a row is an image path and its caption")
    captions.add(num_rows, [])
    is_quoted = 0 < num_marked == num_rows - num_quoted and layout.separator == "\t" and not quotes_all
    return _Table(listed, captions, is_quoted, num_joined)


def _encoding(path: Path) -> tuple[str, str]:
    """The encoding, UTF-8 with or without a byte order mark or UTF-16, which spreadsheets write; and the line end.

    A carriage return ends lines only in a file without line feeds. Elsewhere it is part of a caption.
    """
    try:
        with path.open("rb") as file:
            head = file.read(MAX_HEADER)
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read ({error.strerror}): check its permissions") from error
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = head.decode(encoding, "replace")
    return encoding, "\r" if "\r" in text and "\n" not in text else "\n"


def _layout(file: TextIO, path: Path, quotes_all: bool) -> tuple[Layout, str]:
    """The first separator that gives exactly one image and one caption column in the header.

    Of a file without a header, that of its kind and the first line, which is a row.
    """
    header = file.readline(MAX_HEADER)
    if _TOKEN_ROW.fullmatch(header.rstrip("\r\n")):
        return TOKENS._replace(quotes_all=quotes_all), header
    columns = {separator: _columns(header, separator) for separator in SEPARATORS}
    for separator, names in columns.items():
        images = [index for index, name in enumerate(names) if name in IMAGE_COLUMNS]
        captions = [index for index, name in enumerate(names) if name in CAPTION_COLUMNS]
        if len(images) == len(captions) == 1:
            has_marks = all(field.strip().startswith('"') for field in header.split(separator))
            return Layout(separator, len(names), images[0], captions[0], quotes_all or has_marks), ""
    if len(header) == MAX_HEADER or not header.rstrip().replace("\t", " ").isprintable():
        raise _not_a_table(path)
    found = max(columns.values(), key=len)
    listed = ", ".join(repr(name[:40]) for name in found[:MAX_LISTED]) if header.strip() else "none, since it is empty"
    raise ValueError(
        f"'{path}' needs one column 'filepath' and one 'title' or 'caption' in its first line, separated by a comma "
        f"or a tab; its columns are {listed}"
    )


def _not_a_table(path: Path) -> ValueError:
    return ValueError(
        f"'{path}' is not a table of text: its first line must name the columns, as 'filepath,title' does, in UTF-8"
    )


def _columns(header: str, separator: str) -> list[str]:
    try:
        fields = next(csv.reader([header], delimiter=separator), [])
    except csv.Error:
        return []
    return [field.strip().lower() for field in fields]


def _pair(fields: list[str], layout: Layout, path: Path) -> tuple[str, str]:
    """Path and caption of a row; empty if missing."""
    name = fields[layout.image].strip() if layout.image < len(fields) else ""
    name = name.rpartition("#")[0] if layout.numbers_captions else name
    if name.startswith(("http://", "https://")):
        raise ValueError(f"'{path}' lists images by URL, first {name[:80]!r}: download them first")
    caption = fields[layout.caption] if layout.caption < len(fields) else ""
    return name, cleaned(caption if caption.isascii() else _UNDECODED.sub("\ufffd", caption))
