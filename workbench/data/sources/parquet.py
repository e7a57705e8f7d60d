"""``parquet:PATH`` and ``datasets:DIR``: tables of images and captions as the Hugging Face Hub stores them.

PATH is a Parquet file, a folder of them, a glob or a brace range; DIR is what ``datasets.save_to_disk`` wrote. Images
are bytes in the table, or paths to files.
"""

import re
from array import array
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from workbench.data.captions import cleaned, tallied_captions
from workbench.data.dataset import FORMS, existing, no_such_path
from workbench.data.sources.columns import Columns, find_columns, parse_table_spec
from workbench.data.sources.csv import IMAGE_FOLDERS
from workbench.data.sources.files import ImageFiles, ImageList, base_folder
from workbench.data.sources.ranges import expand_ranges
from workbench.data.sources.tables import TableFile, digest, open_table, require_pyarrow
from workbench.data.unusable import (
    BadShards,
    ImageError,
    caption_tally,
    reading_of,
    refused_shards,
    skipped_shards,
)
from workbench.documents import read_json
from workbench.errors import unknown
from workbench.progress import with_bar
from workbench.prompts import CAPTION, fill

MANY_FILES = 8
LARGE_READ_BYTES = 64 << 20  # for one image
STATE_FILE, SPLITS_FILE = "state.json", "dataset_dict.json"
SPLITS = {
    "train": ("train",),
    "teacher": ("train",),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test",),
}
_SPLIT = re.compile(r"(train|validation|valid|val|dev|test)(?=[-._])")  # at the start of a file's name


class RowImages(ImageFiles):
    """Images that are bytes in the rows of tables; an image's key is its file's name without suffix, and its row."""

    def __init__(self, listed: ImageList, tables: Sequence[TableFile], rows: "array[int]", **facts: Any) -> None:
        """Takes over the listed rows.

        Args:
            rows: the number of the table, then the row in it, for each image.
            facts: as those of :class:`ImageFiles`.
        """
        self._tables, self._table_rows = tables, rows
        super().__init__(listed, tables[0].path.parent, tables[0].path.name, **facts)

    def encoded(self, index: int) -> bytes:
        table, row = self._row(index)
        data = table.image(row)
        if data is None:
            raise ImageError("missing file", f"'{table.path}', row {row}: the image is null")
        return data

    def stamp(self) -> str:
        return sha256(repr([(one.status.st_size, one.status.st_mtime_ns) for one in self._tables]).encode()).hexdigest()

    @property
    def shard_sizes(self) -> tuple[list[int]]:
        sizes_S = np.bincount(np.frombuffer(self._table_rows, np.int64)[::2], minlength=len(self._tables))
        return ([int(size) for size in sizes_S],)

    def _row(self, index: int) -> tuple[TableFile, int]:
        return self._tables[self._table_rows[2 * index]], self._table_rows[2 * index + 1]

    def _image_parts(self) -> Iterator[bytes]:
        return (digest(table) for table in self._tables)


def open_parquet(spec: str, role: str, num_pairs: int = 0, bad_shards: BadShards = "refuse") -> ImageFiles:
    """The images of Parquet files, in order.

    Args:
        spec: ``PATH[#image=COLUMN,caption=COLUMN][@DIR]``.
        role: the split, if a folder has files of several, named as on the Hub (``test-00000-of-00001.parquet``).
        num_pairs: use only the first so many images; 0 for all.
        bad_shards: what to do with files that cannot be read; see ``data.bad_shards``.

    Raises:
        ValueError: no such file, unusable columns, or no usable row.
    """
    return _open(spec, parquet_paths(spec, role), num_pairs, bad_shards)


def open_saved(spec: str, role: str, num_pairs: int = 0, bad_shards: BadShards = "refuse") -> ImageFiles:
    """The images of a dataset that ``datasets.save_to_disk`` wrote; arguments and errors as of :func:`open_parquet`.

    Args:
        role: the split of a ``DatasetDict``, whose splits are folders.
    """
    return _open(spec, saved_paths(spec, role), num_pairs, bad_shards)


def parquet_paths(spec: str, role: str) -> list[Path]:
    """The files of a SPEC, sorted; in a folder with files of several splits, those of the role.

    Raises:
        ValueError: there are none, or pyarrow is not installed.
    """
    require_pyarrow()
    text = parse_table_spec(spec).path
    names = expand_ranges(text)
    paths = [found for name in names for found in _matching(Path(name).expanduser(), is_only=len(names) == 1)]
    files = [file for path in paths for file in (sorted(path.glob("*.parquet")) if path.is_dir() else [path])]
    if not files:
        raise ValueError(f"no .parquet files in '{text}': a SPEC is {FORMS}")
    if wrong := [file for file in files if file.suffix != ".parquet"]:
        raise ValueError(f"'{wrong[0]}' is not a .parquet file: a SPEC is {FORMS}")
    splits = [match[1] if (match := _SPLIT.match(file.name)) else "" for file in files]
    if len(set(splits)) > 1 and any(path.is_dir() for path in paths):
        chosen = [file for file, split in zip(files, splits, strict=True) if split in SPLITS[role]]
        if not chosen:
            raise ValueError(f"'{text}' has no {role} split: name the files, as in parquet:{files[0]}")
        return chosen
    return files


def saved_paths(spec: str, role: str) -> list[Path]:
    """The Arrow files of a saved dataset in order; those of the role's split if it has splits.

    Raises:
        ValueError: no such dataset or split, or pyarrow is not installed.
    """
    require_pyarrow()
    text = parse_table_spec(spec).path
    folder = existing(text, "folder")
    if (folder / SPLITS_FILE).exists():
        splits = [entry.name for entry in sorted(folder.iterdir()) if (entry / STATE_FILE).exists()]
        found = [name for name in SPLITS[role] if name in splits]
        if not found:
            raise unknown(f"split of '{folder}'", role, [f"datasets:{text}/{name}" for name in splits])
        folder /= found[0]
    if not (folder / STATE_FILE).exists():
        raise ValueError(f"'{folder}' is not a saved dataset: write one with dataset.save_to_disk(DIR)")
    try:
        names = [file["filename"] for file in read_json(folder / STATE_FILE)["_data_files"]]
        return [folder / Path(name).name for name in names]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{folder / STATE_FILE}' cannot be read: save the dataset again") from error


def _matching(path: Path, *, is_only: bool) -> list[Path]:
    """The files that match a glob, else the path; one of a range may be missing."""
    if any(one in path.name for one in "*?[") and not path.exists():
        return sorted(path.parent.glob(path.name))
    if is_only and not path.exists():
        raise no_such_path(path)
    return [path]


def _open(spec: str, paths: Sequence[Path], num_pairs: int, bad_shards: BadShards) -> ImageFiles:
    _, named, folder = parse_table_spec(spec)
    source = f"'{paths[0]}'{' and other files' if len(paths) > 1 else ''}"
    tables, columns, bad = _tables(paths, named, bad_shards, source)
    rows = _Rows(columns, tables[0], num_pairs, source)
    for number, table in enumerate(with_bar(tables, "reading captions", MANY_FILES)):
        rows.read(number, table)
    notes = [skipped_shards(list(bad.values()), len(paths)), _large_read(tables) if rows.has_bytes else ""]
    reading = reading_of(rows.tally, *notes, skipped=[path.name for path in bad])
    if not rows.listed:
        raise ValueError(f"{source} has no row with both an image and a caption: it has {rows.tally.num_seen} rows")
    facts: dict[str, Any] = {
        "class_N": rows.class_N if columns.label else None,
        "task": columns.task,
        "reading": reading,
    }
    if rows.has_bytes:
        return RowImages(rows.listed, tables, rows.places, **facts)
    home = paths[0].parent
    folders = [Path(folder)] if folder else [home, Path.cwd(), *(home / name for name in IMAGE_FOLDERS)]
    return ImageFiles(rows.listed, base_folder(rows.listed, folders, source), paths[0].name, **facts)


def _tables(
    paths: Sequence[Path], named: dict[str, str], bad_shards: BadShards, source: str
) -> tuple[list[TableFile], Columns, dict[Path, str]]:
    """The files that can be read, the columns of the first, and why others cannot."""
    tables: list[TableFile] = []
    columns, bad = None, {}
    for path in with_bar(paths, "opening files", MANY_FILES):
        try:
            table = open_table(path)
        except ValueError as error:
            bad[path] = str(error)
            continue
        columns = columns or find_columns(table.schema, named, source)
        if missing := {columns.image, columns.caption or columns.label} - set(table.schema.names):
            raise ValueError(f"'{path}' has no column '{missing.pop()}', which '{paths[0]}' has: give them apart")
        table.index_images(columns.image)
        tables.append(table)
    if columns is None or (bad and bad_shards == "refuse"):
        raise refused_shards(list(bad.values()), len(paths), can_skip=bool(tables))
    return tables, columns, bad


class _Rows:
    """Collects the usable rows of tables, in order.

    Attributes:
        listed: images with their captions; their names are keys, or paths if the table has no bytes.
        places: the number of the table and the row of each image.
        class_N: the class of each image, if captions are made from class names.
        has_bytes: whether images are bytes in the table, which the first row decides.
    """

    def __init__(self, columns: Columns, first: TableFile, num_pairs: int, source: str) -> None:
        self.listed, self.places, self.class_N = ImageList(num_pairs), array("q"), array("q")
        self.tally = caption_tally(source)
        self.has_bytes = columns.has_bytes and (not first.num_rows or first.image(0) is not None)
        self._columns, self._num_pairs = columns, num_pairs

    def read(self, number: int, table: TableFile) -> None:
        """Adds the rows of a table."""
        columns, stem = self._columns, table.path.stem
        needed = [columns.caption or columns.label, *([] if self.has_bytes else [columns.image])]
        for row, values in enumerate(table.rows(needed)):
            if self.has_bytes and 0 < self._num_pairs == len(self.listed):
                return
            where = f"'{table.path.name}', row {row}"
            name = f"{stem}/{row}" if self.has_bytes else _path_of(values[columns.image])
            if not name:
                self.tally.add(1, [("no path", f"there is no path, {where}")])
                continue
            before = len(self.listed)
            for caption in self._captions(values[needed[0]], where):
                self.listed.add(name, caption)
            if len(self.listed) > before:
                self.places.extend((number, row))
                if columns.label:
                    self.class_N.append(values[columns.label])

    def _captions(self, value: Any, where: str) -> tuple[str, ...]:
        """The captions in a cell, or of the class whose number it is."""
        if self._columns.caption:
            texts = value if isinstance(value, list) else [value]
            return tallied_captions(texts, self.tally, where, "" if texts else "the list of captions is empty")
        is_class = isinstance(value, int) and 0 <= value < len(self._columns.classes)
        self.tally.add(1, [] if is_class else [("no class", f"the class is {value}, {where}")])
        return (fill(CAPTION, self._columns.classes[value]),) if is_class else ()


def _path_of(value: Any) -> str:
    """The path of an image, alone or in the Hub's struct; empty if it is null."""
    path = value.get("path") if isinstance(value, dict) else value
    if path and path.startswith(("http://", "https://")):
        raise ValueError(f"the images are listed by URL, first {path[:80]!r}: download them first")
    return cleaned(path or "")


def _large_read(tables: Sequence[TableFile]) -> str:
    """The note about row groups that take long to read for one image; empty if all are small."""
    most = max(table.largest_read for table in tables)
    if most < LARGE_READ_BYTES:
        return ""
    return (
        f"each image of '{tables[0].path}' is read with its whole row group, of up to {most / 1e6:,.0f} MB: prepare "
        "the images, which reads every group once (workbench data prepare SPEC --keep jpeg)"
    )
