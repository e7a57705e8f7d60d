"""``workbench bench step``."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.bench.report import Bench, measured, print_table, time_text
from workbench.cli.options import DEFAULT_RUNS, Json, Overrides, Recipe, Trust

if TYPE_CHECKING:
    from workbench.bench.trace import Operator
    from workbench.config.run import RunConfig

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
