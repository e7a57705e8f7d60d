"""``workbench bench step``."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.bench.report import Bench, Device, at_least, device_named, measured, print_table, report, time_text
from workbench.cli.options import DEFAULT_RUNS, Json, Overrides, Recipe, Trust

if TYPE_CHECKING:
    from workbench.bench.losses import LossBench
    from workbench.bench.trace import Operator
    from workbench.config.run import RunConfig


# ``workbench bench data``.

DATA_PAIRS = 128
DATA_MEANING = "Times faster than decoding live; times the floor, copying as many bytes."


def data(
    batch: Annotated[int, typer.Option("--batch", help="Pairs in a batch.")] = DATA_PAIRS,
    case: Annotated[
        list[str] | None,
        typer.Option("--case", help="samples, photographs or photographs-256; if none, all. Repeatable."),
    ] = None,
    json: Json = False,
) -> None:
    """Time to read pictures, and to make batches of them: live, and prepared as pixels or as jpeg.

    The samples are 48 px, the photographs 500 x 375 and cropped to 224 px, -256 at a working size of 256.

    They take turns with decoding live, and with their floor (copying as many bytes as come out) in one run.

    Examples:

        workbench bench data

        workbench bench data --case samples --batch 512 --json
    """
    at_least(1, "--batch", batch)
    import torch

    from workbench.engine.device import machine_facts

    facts = {"machine": machine_facts(torch.device("cpu"))}
    report(data_bench(case or [], batch), facts, json)


def data_bench(cases: list[str], batch: int = DATA_PAIRS) -> Bench:
    """Of these cases, all if none, at so many pairs."""
    import torch

    from workbench.bench.contest import choose_cases, clock
    from workbench.bench.data import CASES, data_rows

    entries = {f"data, {case.name}": partial(data_rows, case, batch) for case in choose_cases(cases, CASES)}
    return Bench(entries, DATA_MEANING, clock(torch.device("cpu")))


# ``workbench bench losses``.

BATCHES = (128, 512, 1024, 2048)
STRAIGHTFORWARD_UP_TO = 512
WIDTH = 512
LOSSES_MEANING = (
    "Times faster than the straightforward form; times the floor, the products alone; peak beyond what was held."
)


def losses(
    batch: Annotated[
        list[int] | None, typer.Option("--batch", help="Pairs in a batch; if none, 128, 512, 1024, 2048. Repeatable.")
    ] = None,
    dim: Annotated[int, typer.Option("--dim", help="Embedding width of both models.")] = WIDTH,
    case: Annotated[
        list[str] | None, typer.Option("--case", help="A loss, gd-paper or mixture; if none, all. Repeatable.")
    ] = None,
    straightforward_up_to: Annotated[
        int, typer.Option("--straightforward-up-to", help="Its largest batch: gd takes 16 x B x B x D bytes there.")
    ] = STRAIGHTFORWARD_UP_TO,
    device: Device = "auto",
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
    at_least(2, "--batch", sizes[0])
    at_least(1, "--dim", dim)
    from workbench.bench.losses import LossBench
    from workbench.engine.device import machine_facts

    place = device_named(device)
    bench = losses_bench(LossBench(dim, place, straightforward_up_to), case or [], sizes)
    report(bench, {"machine": machine_facts(place), "dim": dim}, json)


def losses_bench(bench: "LossBench", cases: list[str], sizes: list[int]) -> Bench:
    """Of these cases, all if none, at these numbers of pairs."""
    from workbench.bench.contest import choose_cases, clock
    from workbench.bench.losses import CASES

    entries = {
        f"losses, {case.name}, B = {size}": partial(bench.rows, case, size)
        for case in choose_cases(cases, CASES)
        for size in sizes
    }
    return Bench(entries, LOSSES_MEANING, clock(bench.device))


MEANING = (
    "Shares of all parts; times faster: prepared than live, a bare loop than the engine; "
    "times the floor, the student's towers alone; peak beyond what was held."
)
Trace = Annotated[
    Path | None,
    typer.Option("--trace", metavar="FILE.json", help="Write a profiler's trace of a few steps, for ui.perfetto.dev."),
]


def step(
    recipe: Recipe = "clip-kd",
    overrides: Overrides = None,
    trace: Trace = None,
    _trust: Trust = False,
    json: Json = False,
) -> None:
    """Where the time of one steady step goes: batch, teacher, student, losses, update.

    Nothing overlaps, and the teacher is live unless data.views and teacher.cache say otherwise. The floor of the whole
    is the student's towers alone, forward and backward, and a bare fused AdamW; the bare loop does the same arithmetic
    as the engine, and nothing else.

    Examples:

        workbench bench step

        workbench bench step --recipe tinyclip-affinity --set train.batch_size=64

        workbench bench step --trace step.json
    """
    from workbench.config.toml import load_recipe
    from workbench.engine.precheck import check_config

    check_config(load_recipe(recipe, overrides), DEFAULT_RUNS)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read as torch loads: its profiler talks to itself on stderr
    from workbench.bench.step import step_config, steps
    from workbench.bench.trace import check_trace_path
    from workbench.bench.trace import trace as trace_steps
    from workbench.cli.output import print_json
    from workbench.engine.device import machine_facts, resolve_device

    path = check_trace_path(trace) if trace else None
    config = step_config(recipe, overrides or [])
    device = resolve_device(config.train.device)
    bench = step_bench(config)
    rows = measured(bench.entries)
    operators: list[Operator] = []
    if path:
        with steps(config) as (_, parts):
            operators = trace_steps(parts, path, device)
    if json:
        document: dict[str, Any] = {"machine": machine_facts(device), "recipe": recipe, "clock": bench.clock}
        document["rows"] = [row.to_json() for row in rows]
        if path:
            document["operators"] = [one.to_json() for one in operators]
        print_json(document)
        return
    print_table(rows, bench)
    if path:
        _print_operators(operators, path)


def step_bench(config: "RunConfig") -> Bench:
    """Of this run's step."""
    from workbench.bench.contest import clock
    from workbench.bench.step import step_rows
    from workbench.engine.device import resolve_device

    rows = partial(step_rows, config)
    kind = clock(resolve_device(config.train.device))
    return Bench({f"step, {config.recipe}, B = {config.train.batch_size}": rows}, MEANING, kind)


def _print_operators(operators: "list[Operator]", path: Path) -> None:
    from workbench.cli.output import print_line, print_rows

    rows = [[one.name, f"{one.calls:,.0f}", time_text(one.time_s), f"{one.share:.1%}"] for one in operators]
    print_line("")
    print_rows(["heaviest operators", "calls", "time", "share"], rows)
    print_line(f"A step of the trace in {path}: open it in ui.perfetto.dev or chrome://tracing.")
