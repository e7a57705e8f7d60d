"""Numbers, durations, sizes, names and CSV cells as text."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.cells import cell_len, set_cell_size

from workbench.errors import visible


def duration(seconds: float) -> str:
    """Seconds as text, such as 12 s, 3.5 min, 2.1 h, 4.0 days."""
    for unit, length_s in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s or (unit != "days" and seconds >= length_s):
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:.0f} s"


def rate(per_s: float, what: str = "pairs") -> str:
    """Throughput as text, such as 1,234 pairs/s, 5.2 pairs/s, 0.43 pairs/s."""
    digits = 0 if per_s >= 9.95 else 1 if per_s >= 0.995 else 2
    return f"{per_s:,.{digits}f} {what}/s"


def clock(time_s: float, form: str = "%H:%M:%S") -> str:
    """Seconds since the epoch as local time of day; dashes if out of range."""
    try:
        return datetime.fromtimestamp(time_s).strftime(form)
    except (OverflowError, OSError, ValueError):
        return "--:--:--"


def size(num_bytes: float) -> str:
    """Bytes as text, such as 512 bytes, 12 kB, 3.5 MB, 1.2 GB (powers of ten)."""
    for unit, unit_bytes in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= 0.9995 * unit_bytes:
            value = num_bytes / unit_bytes
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:,.0f} {unit}"
    return f"{num_bytes:.0f} bytes"


SEPARATORS = "-_ .=/"  # a shared prefix is cut after one of these, not within a word


def shortened(text: str, width: int) -> str:
    """A name in at most ``width`` cells, cut in its middle: names of one study differ at their ends."""
    if cell_len(text) <= width or width < 4:
        return text
    tail = text[-(width // 2) :]
    while cell_len(tail) > width // 2:
        tail = tail[1:]
    return set_cell_size(text, width - 1 - cell_len(tail)) + "…" + tail


def distinct_names(names: Sequence[str], width: int) -> list[str]:
    """The names in at most ``width`` cells each; if one is too long, all lose their common prefix.

    A name that is still too long is cut in its middle.
    """
    if all(cell_len(name) <= width for name in names):
        return list(names)
    num_common = _num_common(names) if len(names) > 1 else 0
    return [shortened("\N{HORIZONTAL ELLIPSIS}" + name[num_common:] if num_common else name, width) for name in names]


def _num_common(names: Sequence[str]) -> int:
    """Length of the names' common prefix, up to the end of a word."""
    columns = enumerate(zip(*names, strict=False))
    num_equal = next((index for index, column in columns if len(set(column)) > 1), min(map(len, names)))
    return max(names[0].rfind(separator, 0, num_equal) + 1 for separator in SEPARATORS)


FORMULA = ("=", "+", "-", "@")  # a cell that starts so is run by spreadsheets; tabs and line ends are escaped


def to_csv(head: Sequence[str], rows: Iterable[Sequence[object]], separator: str = ",") -> str:
    """The table as CSV; text that a spreadsheet would run as a formula gets a leading apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow([_cell(one) for one in head])
    writer.writerows([_cell(one) for one in row] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    shown = visible(value)
    return f"'{shown}" if shown.startswith(FORMULA) and not _is_number(shown) else shown


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
