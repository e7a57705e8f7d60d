"""``workbench bench data``, ``losses`` and ``step``: the parts of a training step."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.bench.report import Bench, Device, at_least, device_named, measured, print_table, report, time_text
from workbench.cli.options import DEFAULT_RUNS, Json, Overrides, Recipe, Trust
from workbench.cli.output import print_json, print_line, print_rows
from workbench.config.run import RunConfig
from workbench.config.toml import load_recipe
from workbench.preflight.precheck import check_config

if TYPE_CHECKING:
    from workbench.bench.losses import LossBench
    from workbench.bench.trace import Operator

DATA_PAIRS = 128
DATA_MEANING = "Times faster than live decoding; times the lower bound, copying as many bytes."


def data(
    batch: Annotated[int, typer.Option("--batch", help="Batch size.")] = DATA_PAIRS,
    case: Annotated[
        list[str] | None,
        typer.Option("--case", help="samples, photographs or photographs-256; all if not given. Repeatable."),
    ] = None,
    json: Json = False,
) -> None:
    """Time of reading images and making batches: live, and prepared as pixels or jpeg.

    Samples have 48 px. Photographs have 500 x 375 px, cropped to 224 px; -256 uses a working size of 256.

    All are interleaved with live decoding and with a lower bound (copying as many bytes) in one run.

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
    """The benchmark of these data cases, or of all if none are given."""
    import torch

    from workbench.bench.contest import choose_cases, clock
    from workbench.bench.data import CASES, data_rows

    entries = {f"data, {case.name}": partial(data_rows, case, batch) for case in choose_cases(cases, CASES)}
    return Bench(entries, DATA_MEANING, clock(torch.device("cpu")))


BATCHES = (128, 512, 1024, 2048)
STRAIGHTFORWARD_UP_TO = 512
WIDTH = 512
LOSSES_MEANING = (
    "Times faster than a naive implementation; times the lower bound (matrix products); peak: extra memory."
)


def losses(
    batch: Annotated[
        list[int] | None, typer.Option("--batch", help="Batch size; 128, 512, 1024 and 2048 if not given. Repeatable.")
    ] = None,
    dim: Annotated[int, typer.Option("--dim", help="Embedding width of both models.")] = WIDTH,
    case: Annotated[
        list[str] | None, typer.Option("--case", help="A loss, gd-paper or mixture; all if not given. Repeatable.")
    ] = None,
    straightforward_up_to: Annotated[
        int,
        typer.Option("--straightforward-up-to", help="Largest naive batch: gd needs 16 x B x B x D bytes."),
    ] = STRAIGHTFORWARD_UP_TO,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Time and peak memory of the losses, forward and backward, at several batch sizes.

    Every loss alone and CLIP-KD's six together (mixture), dense and in chunks of rows.

    All are interleaved with a naive implementation (the released code's arithmetic) and with a lower bound (the matrix
    products alone) in one run.

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
    """The benchmark of these losses, or of all if none are given, at these batch sizes."""
    from workbench.bench.contest import choose_cases, clock
    from workbench.bench.losses import CASES

    entries = {
        f"losses, {case.name}, B = {size}": partial(bench.rows, case, size)
        for case in choose_cases(cases, CASES)
        for size in sizes
    }
    return Bench(entries, LOSSES_MEANING, clock(bench.device))


MEANING = (
    "Share of the step; times faster: prepared than live data, a bare loop than the engine; "
    "times the lower bound, the student's towers alone; peak: extra memory."
)
Trace = Annotated[
    Path | None,
    typer.Option("--trace", metavar="FILE.json", help="Write a profiler trace of a few steps, for ui.perfetto.dev."),
]


def step(
    recipe: Recipe = "clip-kd",
    overrides: Overrides = None,
    trace: Trace = None,
    _trust: Trust = False,
    json: Json = False,
) -> None:
    """Time of the parts of one training step: batch, teacher, student, losses, update.

    Nothing overlaps, and the teacher is live unless data.views and teacher.cache are set. The lower bound of a step is
    the student's towers (forward and backward) and a fused AdamW. The bare loop does only the engine's arithmetic.

    Examples:

        workbench bench step

        workbench bench step --recipe tinyclip-affinity --set train.batch_size=64

        workbench bench step --trace step.json
    """
    check_config(load_recipe(recipe, overrides), DEFAULT_RUNS)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when torch loads: silences its profiler's log
    from workbench.bench.step import step_config, steps
    from workbench.bench.trace import check_trace_path
    from workbench.bench.trace import trace as trace_steps
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


def step_bench(config: RunConfig) -> Bench:
    """The benchmark of one training step of this config."""
    from workbench.bench.contest import clock
    from workbench.bench.step import step_rows
    from workbench.engine.device import resolve_device

    rows = partial(step_rows, config)
    kind = clock(resolve_device(config.train.device))
    return Bench({f"step, {config.recipe}, B = {config.train.batch_size}": rows}, MEANING, kind)


def _print_operators(operators: "list[Operator]", path: Path) -> None:
    rows = [[one.name, f"{one.calls:,.0f}", time_text(one.time_s), f"{one.share:.1%}"] for one in operators]
    print_line("")
    print_rows(["heaviest operators", "calls", "time", "share"], rows)
    print_line(f"Per step of the trace in {path}: open it in ui.perfetto.dev or chrome://tracing.")
