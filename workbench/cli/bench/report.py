"""Shared by all benchmarks: measure the cases with progress, and print a table or JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import Progress

from workbench.cli.output import errors, print_json, print_line, print_rows
from workbench.errors import unknown

if TYPE_CHECKING:
    import torch

    from workbench.bench.contest import Clock, Row

DEVICES = ("auto", "cpu", "cuda")
DASH = "\N{EN DASH}"

Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]


@dataclass(frozen=True)
class Bench:
    """The measurements of a command, and how to read its table.

    Args:
        entries: by label, a function that measures some rows.
        meaning: explains the columns of ratios, in one line.
        clock: the clock that is read; see ``workbench.bench.contest``.
    """

    entries: Mapping[str, Callable[[], "list[Row]"]]
    meaning: str
    clock: "Clock"


def device_named(name: str) -> "torch.device":
    """The device of the option ``--device``.

    Raises:
        ValueError: unknown, or not on this machine.
    """
    from workbench.engine.device import resolve_device

    if name not in DEVICES:
        raise unknown("device", name, DEVICES)
    return resolve_device(name)


def at_least(least: int, option: str, value: int) -> None:
    """Refuse a value below ``least``.

    Raises:
        ValueError: naming the option.
    """
    if value < least:
        raise ValueError(f"{option} must be at least {least} (got {value})")


def report(bench: Bench, facts: Mapping[str, object], json: bool) -> None:
    """Measure, then print a table, or ``facts`` and the rows as JSON."""
    rows = measured(bench.entries)
    if json:
        print_json({**facts, "clock": bench.clock, "rows": [row.to_json() for row in rows]})
        return
    print_table(rows, bench)


def measured(entries: "Mapping[str, Callable[[], list[Row]]]") -> "list[Row]":
    """The rows of all entries, with progress on stderr: a bar in a terminal, a line per entry elsewhere."""
    rows = []
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("", total=len(entries))
        for label, measure in entries.items():
            progress.update(task, description=escape(label))
            if not errors.is_terminal:
                errors.print(label, markup=False, soft_wrap=True)
            rows += measure()
            progress.advance(task)
    return rows


def print_table(rows: "list[Row]", bench: Bench, title: str | None = None) -> None:
    """Print the rows without empty columns, and the meaning of the ratios."""
    columns = {
        "case": [row.case for row in rows],
        "pairs": [f"{row.size:,}" for row in rows],
        "CPU time" if bench.clock == "cpu" else "time": [time_text(row.time_s) for row in rows],
        "share": [_number(row.share, "{:.1%}") for row in rows],
        "pairs/s": [_number(row.pairs_per_s, "{:,.0f}") for row in rows],
        "peak MB": [_number(row.peak_mb, "{:,.1f}") for row in rows],
        "times faster": [_number(row.ratio, "{:.2f}") for row in rows],
        "times bound": [_number(row.floor_ratio, "{:.2f}") for row in rows],
    }
    columns = {heading: cells for heading, cells in columns.items() if set(cells) != {DASH}}
    print_rows(list(columns), [list(row) for row in zip(*columns.values(), strict=True)], title)
    print_line(bench.meaning)


def time_text(time_s: float) -> str:
    """A duration in seconds, or in milliseconds below one second."""
    return f"{time_s:.2f} s" if time_s >= 1 else f"{1000 * time_s:.2f} ms"


def _number(value: float | None, form: str) -> str:
    return DASH if value is None else form.format(value)
