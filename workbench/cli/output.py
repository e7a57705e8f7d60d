"""What goes to stdout (results) and what to stderr (progress)."""

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from workbench.views.metrics import metric_label

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def print_line(text: str) -> None:
    """A line of plain text, unwrapped, so that paths in it can be copied."""
    console.print(text, markup=False, soft_wrap=True)


def print_rows(columns: list[str], rows: list[list[str]], title: str | None = None, *, num_words: int = 1) -> None:
    """A plain table: the first ``num_words`` columns hold words, the others values, set to the right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < num_words else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def print_metrics(metrics: Mapping[str, float], standard_errors: Mapping[str, float], title: str) -> None:
    """Metrics with their labels, and ± one standard error where there is one."""
    rows = []
    for name, value in metrics.items():
        label = metric_label(name)
        error = standard_errors.get(name)
        rows.append([label.title, label.number(value), "" if error is None else f"± {label.number(error)}"])
    print_rows(["metric", "value", "std. error"], rows, title)
