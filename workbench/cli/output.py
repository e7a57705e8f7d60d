"""What goes to stdout (results) and what to stderr (progress)."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from workbench.views.metrics import metric_label

GAP = 2  # between columns
LONG_WORD = 32  # beyond which a word, a path for example, may be broken
NOTHING = ("", "-", "\N{EN DASH}")  # a cell that says that there is none
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def print_line(text: str) -> None:
    """A line of plain text, unwrapped, so that paths in it can be copied."""
    console.print(text, markup=False, soft_wrap=True)


def print_rows(columns: list[str], rows: list[list[str]], title: str | None = None, *, num_words: int = 1) -> None:
    """A plain table: the first ``num_words`` columns hold words, the others values, set to the right.

    Where a terminal is too narrow for its longest words and values side by side, a row is its first cell with the
    others under it.
    """
    if title:
        console.print(title, markup=False, soft_wrap=True, style="italic")
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    widths = _widths([list(column) for column in zip(columns, *rows, strict=True)], num_words, console.width)
    if rows and widths is None:
        for row in rows:
            for line in _stacked(columns, row, console.width):
                print_line(line)
        return
    for index, column in enumerate(columns):
        justify: Literal["left", "right"] = "left" if index < num_words else "right"
        table.add_column(column, justify=justify, overflow="fold", width=widths[index] if widths else None)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def _widths(columns: list[list[str]], num_words: int, width: int) -> list[int] | None:
    """What each column gets of the terminal: all it wants, or at least its longest word; None if that is too much.

    A column is its heading and its cells; values are never broken, headings and words at their spaces.
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
    by_wish = sorted(range(len(columns)), key=lambda index: wanted[index] - least[index])
    for position, index in enumerate(by_wish):
        given[index] += min(wanted[index] - least[index], spare // (len(columns) - position))
        spare -= given[index] - least[index]
    return given


def _longest_word(cell: str) -> int:
    return max((min(cell_len(word), LONG_WORD) for word in cell.split()), default=0)


def _stacked(columns: list[str], row: list[str], width: int) -> Iterator[str]:
    """A row's first cell, then ``column value`` for what else it holds, as many to a line as fit."""
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
    """Metrics with their labels, and ± one standard error where there is one.

    Args:
        teacher: its metrics on the same pairs.
        chance: what a random answer is expected to score.
    """
    levels = {name: values for name, values in (("teacher", teacher), ("chance", chance)) if values}
    rows = []
    for name, value in metrics.items():
        label = metric_label(name)
        error = standard_errors.get(name)
        others = [label.number(values.get(name)) for values in levels.values()]
        rows.append([label.title, label.number(value), "" if error is None else f"± {label.number(error)}", *others])
    print_rows(["metric", "value", "std. error", *levels], rows, title)
