"""Output of all commands: results to stdout as tables, lines or JSON; progress and errors to stderr."""

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from workbench.documents import strict_numbers
from workbench.errors import visible
from workbench.views.metrics import metric_label

GAP = 2  # between columns
SHORT_NAME = 16  # a first cell up to this width stays in its column
LONG_WORD = 32  # a longer word, such as a path, may be broken
DASH = "\N{EN DASH}"
NOTHING = ("", "-", DASH)  # empty cells


class PlainConsole(Console):
    """A console that escapes control characters in its input and sends only those of its own styles."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Escape a string first, so that it is measured and wrapped as it is shown."""
        return super().render_str(visible(text, lines=True), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escape what any other renderable prints."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible(text, lines=True), style, control)


console = PlainConsole(highlight=False)
errors = PlainConsole(stderr=True, highlight=False)


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document to stdout; numbers that are not finite become "NaN", "Infinity" and "-Infinity"."""
    text = json.dumps(strict_numbers(document), indent=2, ensure_ascii=False, allow_nan=False, default=str)
    lines = (line if line.isprintable() else _escaped(line) for line in text.split("\n"))
    print("\n".join(lines))


def _escaped(line: str) -> str:
    """A line of JSON with unprintable characters escaped; only strings can hold them."""
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in line)


def print_wrapped(text: str, indent: str = "") -> None:
    """Print a paragraph, wrapped to the terminal's width, each line after ``indent``."""
    lines = textwrap.wrap(visible(text), console.width, initial_indent=indent, subsequent_indent=indent)
    print_line("\n".join(lines))


def print_line(text: str) -> None:
    """Print a line of plain text, unwrapped, so that paths can be copied."""
    console.print(text, markup=False, soft_wrap=True)


def print_note(text: str) -> None:
    """Print a line of plain text to stderr, unwrapped."""
    errors.print(text, markup=False, soft_wrap=True)


def print_step(text: str) -> None:
    """Print a line about the current step of a command to stderr.

    Not a live display: reading large data shows progress bars, and two of these overwrite each other.
    """
    errors.print(text, style="dim", markup=False, soft_wrap=True)


def indented(text: str) -> str:
    """Text from a file for use in a message: its further lines are indented, so they cannot pass for our own."""
    return "\n    ".join(map(visible, text.split("\n")))


def print_rows(
    columns: list[str], rows: list[list[str]], title: str | None = None, *, num_words: int = 1, lines: bool = False
) -> None:
    """Print a plain table, the only one of the command line.

    On a terminal that is too narrow, long first cells get a line of their own; if the others are still too wide, each
    row becomes its first cell with the other cells below it.

    Args:
        num_words: the first columns hold words and are aligned left; the others hold values, aligned right.
        lines: cells may have line breaks (from the caller, not from a file).
    """
    columns = [visible(column) for column in columns]
    rows = [[visible(cell, lines=lines) for cell in row] for row in rows]
    if title:
        console.print(title, markup=False, soft_wrap=True, style="italic")
    cells = [list(column) for column in zip(columns, *rows, strict=True)]
    long_names: set[str] = set()
    widths = _widths(cells, num_words, console.width)
    if rows and widths is None:
        widths, long_names = _without_long_names(cells, num_words, console.width)
    if rows and widths is None:
        for row in rows:
            for line in _stacked(columns, row, console.width):
                print_line(line)
        return
    held: list[list[str]] = []  # rows between two long names share one table
    has_head = True
    for row in rows:
        if row[0] in long_names:
            _print_table(columns, held, widths, num_words, has_head=has_head)
            print_line(row[0])
            held, has_head = [["", *row[1:]]], False
        else:
            held.append(row)
    _print_table(columns, held, widths, num_words, has_head=has_head)


def _print_table(
    columns: list[str], rows: list[list[str]], widths: list[int] | None, num_words: int, *, has_head: bool
) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0), show_header=has_head)
    for index, column in enumerate(columns):
        justify: Literal["left", "right"] = "left" if index < num_words else "right"
        table.add_column(escape(column), justify=justify, overflow="fold", width=widths[index] if widths else None)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def _without_long_names(cells: list[list[str]], num_words: int, width: int) -> tuple[list[int] | None, set[str]]:
    """Column widths without the longest first cells, and these cells; None if that is still too wide."""
    names = sorted(set(cells[0][1:]), key=cell_len)
    while names and cell_len(names.pop()) > SHORT_NAME:
        kept = [cells[0][0], *names]
        if widths := _widths([kept, *cells[1:]], num_words, width):
            return widths, {name for name in cells[0][1:] if cell_len(name) > widths[0]}
    return None, set()


def _widths(columns: list[list[str]], num_words: int, width: int) -> list[int] | None:
    """Column widths that fit the terminal, at least the longest word of each; None if even that is too wide.

    A column is its heading and its cells. Values are never broken; headings and words break at spaces.
    """
    wanted = [max(map(cell_len, column)) for column in columns]
    least = [
        max(_longest_word(column[0]), *map(_longest_word if index < num_words else cell_len, column[1:]), 0)
        for index, column in enumerate(columns)
    ]
    spare = width - sum(least) - GAP * (len(columns) - 1)
    if spare < 0:
        return None
    given = list(least)
    by_lack = sorted(range(len(columns)), key=lambda index: wanted[index] - least[index])
    for position, index in enumerate(by_lack):  # smallest first: what it does not need is left for the others
        given[index] += min(wanted[index] - least[index], spare // (len(columns) - position))
        spare -= given[index] - least[index]
    return given


# A path or id has no spaces; without the limit, one would force the stacked layout.
def _longest_word(cell: str) -> int:
    return max((min(cell_len(word), LONG_WORD) for word in cell.split()), default=0)


def _stacked(columns: list[str], row: list[str], width: int) -> Iterator[str]:
    """Lines of a row: its first cell, then its other cells as ``column value``, as many per line as fit."""
    first, *others = row
    yield first
    line = ""
    for column, cell in zip(columns[1:], others, strict=True):
        if cell in NOTHING:
            continue
        item = f"{column} {cell}".strip()
        if line and len(line) + len(item) + 2 > width:
            yield line + ","
            line = ""
        line = f"{line}, {item}" if line else f"  {item}"
    if line:
        yield line


def print_metrics(
    metrics: Mapping[str, float],
    standard_errors: Mapping[str, float],
    title: str,
    *,
    teacher: Mapping[str, float] = {},
    chance: Mapping[str, float] = {},
) -> None:
    """Print a table of metrics, with ± one standard error where known.

    Args:
        teacher: the teacher's metrics on the same pairs.
        chance: the chance level of each metric.
    """
    levels = {name: values for name, values in (("teacher", teacher), ("chance", chance)) if values}
    rows = []
    for name, value in metrics.items():
        label = metric_label(name)
        error = standard_errors.get(name)
        others = [label.number(values.get(name)) for values in levels.values()]
        rows.append([label.title, label.number(value), "" if error is None else f"± {label.number(error)}", *others])
    print_rows(["metric", "value", "std. error", *levels], rows, title)
