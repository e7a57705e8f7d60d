"""``workbench bench``: speed and memory, as ratios taken in one run."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.options import Json

if TYPE_CHECKING:
    from workbench.bench.row import Row

BATCHES = (128, 512, 1024, 2048)
STRAIGHTFORWARD_UP_TO = 512
DEVICES = ("auto", "cpu", "cuda")
DASH = "\N{EN DASH}"

Entries = Mapping[str, Callable[[], "list[Row]"]]

app = typer.Typer(help="Measure speed and memory.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Measure speed and memory."""


@app.command()
def losses(
    batch: Annotated[
        list[int] | None, typer.Option("--batch", help="Pairs in a batch; if none, 128, 512, 1024, 2048. Repeatable.")
    ] = None,
    dim: Annotated[int, typer.Option("--dim", help="Embedding width of both models.")] = 512,
    case: Annotated[
        list[str] | None, typer.Option("--case", help="A loss, gd-paper or mixture; if none, all. Repeatable.")
    ] = None,
    straightforward_up_to: Annotated[
        int, typer.Option("--straightforward-up-to", help="Its largest batch: gd takes 16 x B x B x D bytes there.")
    ] = STRAIGHTFORWARD_UP_TO,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    json: Json = False,
) -> None:
    """Time and peak memory of the losses, forward and backward, at growing batches.

    Every loss by itself and CLIP-KD's six together (mixture), dense and in chunks of rows.

    They take turns with the straightforward form (the released arithmetic line by line) and with their floor (the
    matrix products alone) in one run.

    Examples:

        workbench bench losses

        workbench bench losses --case mixture --batch 8192

        workbench bench losses --case gd --case gd-paper --batch 256 --dim 64 --json
    """
    sizes = sorted(set(batch or BATCHES))
    _at_least(2, "--batch", sizes[0])
    _at_least(1, "--dim", dim)
    from workbench.bench.losses import LossBench, choose_cases
    from workbench.config.nearest import unknown
    from workbench.engine.device import machine_facts, resolve_device

    if device not in DEVICES:
        raise unknown("device", device, DEVICES)
    place = resolve_device(device)
    bench = LossBench(dim, place, straightforward_up_to)
    entries = {
        f"{chosen.name}, B = {size}": partial(bench.rows, chosen, size)
        for chosen in choose_cases(case or [])
        for size in sizes
    }
    _report(entries, {"machine": machine_facts(place), "dim": dim}, "B", json)


def _at_least(least: int, option: str, value: int) -> None:
    if value < least:
        raise ValueError(f"{option} must be at least {least} (got {value})")


def _report(entries: Entries, facts: Mapping[str, object], size_title: str, json: bool) -> None:
    """Measure the entries and print what was found: a table, or ``facts`` and the rows as JSON."""
    from workbench.cli.output import print_json, print_line, print_rows

    rows = _measure(entries)
    if json:
        print_json({**facts, "rows": [row.to_json() for row in rows]})
        return
    print_rows(
        ["case", size_title, "time", "peak MB", "times faster", "times floor"],
        [
            [
                row.case,
                f"{row.size:,}",
                f"{row.time_s:.2f} s" if row.time_s >= 1 else f"{1000 * row.time_s:.2f} ms",
                DASH if row.peak_mb is None else f"{row.peak_mb:,.1f}",
                DASH if row.ratio is None else f"{row.ratio:.2f}",
                DASH if row.floor_ratio is None else f"{row.floor_ratio:.2f}",
            ]
            for row in rows
        ],
    )
    print_line("Faster than the straightforward form; of the floor's time; peak beyond what was held before.")


def _measure(entries: Entries) -> "list[Row]":
    """The rows of all entries, with progress on stderr: a bar in a terminal, a line an entry elsewhere."""
    from rich.markup import escape
    from rich.progress import Progress

    from workbench.cli.output import errors

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
