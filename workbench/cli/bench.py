"""``workbench bench``: speed and memory, as ratios measured in one run."""

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.progress import Progress

from workbench.cli.options import DEFAULT_RUNS, Json, Overrides, Recipe, Trust
from workbench.cli.output import DASH, errors, print_json, print_line, print_note, print_rows
from workbench.config.toml import load_recipe
from workbench.errors import unknown
from workbench.preflight.precheck import check_config, check_steps

if TYPE_CHECKING:
    import torch

    from workbench.bench.contest import Bench, Row

# The modules of workbench.bench import torch, so each command imports them after its checks.

Line = TypeVar("Line")  # of a table
DEVICES = ("auto", "cpu", "cuda")
LOSS_WIDTH, STRAIGHTFORWARD_UP_TO = 512, 512

Batch = Annotated[int, typer.Option("--batch", help="Batch size.")]
Trace = Annotated[
    Path | None,
    typer.Option("--trace", metavar="FILE.json", help="Write a profiler trace of a few steps, for ui.perfetto.dev."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]

app = typer.Typer(help="Measure speed and memory.", no_args_is_help=True)


BatchOption = Annotated[
    list[int] | None, typer.Option("--batch", help="Batch size; 128, 512, 1024 and 2048 if not given. Repeatable.")
]
Case = Annotated[
    list[str] | None, typer.Option("--case", help="A loss, gd-paper or mixture; all if not given. Repeatable.")
]
StraightforwardUpTo = Annotated[
    int, typer.Option("--straightforward-up-to", help="Largest naive batch: gd needs 16 x B x B x D bytes.")
]


@app.command()
def losses(
    batch: BatchOption = None,
    dim: Annotated[int, typer.Option("--dim", help="Embedding width of both models.")] = LOSS_WIDTH,
    case: Case = None,
    straightforward_up_to: StraightforwardUpTo = STRAIGHTFORWARD_UP_TO,
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
    sizes = sorted(set(batch or (128, 512, 1024, 2048)))
    _check(2, "--batch", sizes[0])
    _check(1, "--dim", dim)
    from workbench.bench.losses import LossMeasurement, losses_bench

    place = _device(device)
    bench = losses_bench(LossMeasurement(dim, place, straightforward_up_to), case or [], sizes)
    _report(bench, place, json, dim=dim)


@app.command()
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
    asked = load_recipe(recipe, overrides)
    check_config(asked, DEFAULT_RUNS)
    check_steps(asked)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when torch loads: silences its profiler's log
    from workbench.bench.step import check_trace_path, step_bench, step_config, traced

    if trace:
        check_trace_path(trace)
    config = step_config(recipe, overrides or [])
    bench = step_bench(config)
    rows = _measured(bench.entries)
    operators = traced(config, trace) if trace else []
    if json:
        listed = {"operators": [one.to_json() for one in operators]} if trace else {}
        print_json(_document(bench, _device(config.train.device), rows, recipe=recipe) | listed)
        return
    _print_table(rows, bench)
    if trace:
        cells = [[one.name, f"{one.calls:,.0f}", _time(one.time_s), f"{one.share:.1%}"] for one in operators]
        print_line("")
        print_rows(["heaviest operators", "calls", "time", "share"], cells)
        print_line(f"Per step of the trace in {trace}: open it in ui.perfetto.dev or chrome://tracing.")


@app.command()
def data(
    batch: Batch = 128,
    case: Annotated[
        list[str] | None,
        typer.Option("--case", help="samples, photographs or photographs-256; all if not given. Repeatable."),
    ] = None,
    json: Json = False,
) -> None:
    """Time of reading images and making batches: live, and prepared as pixels, jpeg or crops of three views.

    Samples have 48 px. Photographs have 500 x 375 px, cropped to 224 px; -256 uses a working size of 256.

    All are interleaved with live decoding and with a lower bound (copying as many bytes) in one run.

    Examples:

        workbench bench data
        workbench bench data --case samples --batch 512 --json
    """
    _check(1, "--batch", batch)
    from workbench.bench.data import data_bench

    _report(data_bench(case or [], batch), _device("cpu"), json)


@app.command()
def cache(
    size: Annotated[str, typer.Option("--size", help="samples, or real: ViT-B-16 to ViT-T-16 at 224 px.")] = "samples",
    batch: Annotated[
        int | None, typer.Option("--batch", help="Batch size; 128 if not given, or 8 with --size real.")
    ] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Time of a step with a cached teacher, a live teacher, and a teacher at no cost.

    All use the losses of the recipe clip-kd, interleaved in one run.

    Examples:

        workbench bench cache
        workbench bench cache --size real --batch 16 --json
    """
    from workbench.bench.training import cache_bench, choose_size

    chosen, place = choose_size(size), _device(device)
    num_pairs = chosen.batch_size if batch is None else batch
    _check(2, "--batch", num_pairs)
    _report(cache_bench([(chosen, num_pairs)], place), place, json)


@app.command()
def cohort(
    members: Annotated[int, typer.Option("--members", help="Number of students, N.")] = 8,
    batch: Batch = 128,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Time of a step of N students in one cohort, against N separate runs.

    Uses sample models and data, the losses of the recipe clip-kd and a live teacher. Sharing decoding and teacher can
    give a speedup of N (D + T + S) / (D + T + N S), for decode, teacher and student times D, T, S of the same run. On a
    GPU also stacked, against the step of one run.

    Examples:

        workbench bench cohort
        workbench bench cohort --members 4 --batch 64 --json
    """
    _check(2, "--members", members)
    _check(2, "--batch", batch)
    from workbench.bench.training import cohort_bench

    place = _device(device)
    _report(cohort_bench(place, members, batch), place, json, num_members=members)


@app.command()
def peer(
    batch: Batch = 128,
    workers: Annotated[int, typer.Option("--workers", help="Data loader processes of each.")] = 1,
    turns: Annotated[int, typer.Option("--turns", help="Turns of each, with 8 timed steps.")] = 5,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Throughput of open_clip's training program with its distillation flags, and of the workbench.

    Same teacher and student (mini-w128, mini-w64, byte-pair tokenizer), images (48 px, JPEG), batch size, losses,
    threads and float32. They take turns, and the other one is paused. Needs the extra `peer`.

    The workbench's first row does the same work; the others use images decoded, or embeddings computed, beforehand.

    Examples:

        workbench bench peer
        workbench bench peer --batch 64 --workers 0 --json
    """
    _check(2, "--batch", batch)
    _check(0, "--workers", workers)
    _check(1, "--turns", turns)
    from workbench.bench.peer import Match, peer_bench

    place = _device(device)
    _report(peer_bench(Match(batch, workers, place, turns)), place, json, num_workers=workers)


@app.command()
def gpu(json: Json = False) -> None:
    """What was predicted of a GPU (one H200), next to what this GPU does.

    Steps of small and larger students, eager, compiled and as a CUDA graph; stacking, bf16, the losses at 32,768 pairs.
    What cannot run is a row with the reason. Takes some minutes, and needs a GPU.

    Examples:

        workbench bench gpu
        workbench bench gpu --json > gpu.json
    """
    from workbench.bench.gpu import MEANING, check_gpu, estimates
    from workbench.engine.device import machine_facts

    place = check_gpu()
    found = _measured({one.case: partial(one.rows, place) for one in estimates()})
    facts = machine_facts(place)
    if json:
        print_json({"machine": facts, "rows": [one.to_json() for one in found]})
        return
    print_rows(["case", "unit", "predicted", "measured"], [one.cells() for one in found], title=facts["device"])
    print_line(MEANING)


@app.command("all")
def everything(device: Device = "cpu", json: Json = False) -> None:
    """Run all benchmarks at their default sizes, and compare the results with the goals.

    Takes minutes on an idle machine, up to an hour on a busy one. Runs the mixture of losses, samples and photographs
    at 256 px, and both cache sizes. Needs the extra `peer`.

    Examples:

        workbench bench all
        COLUMNS=110 workbench bench all > tables.txt
    """
    from workbench.bench.goals import reached
    from workbench.bench.peer import check_program
    from workbench.engine.device import machine_facts

    place = _device(device)
    check_program()
    date, machine = datetime.now().astimezone().date().isoformat(), machine_facts(place)
    benches = _benches(place)
    tables: dict[str, list[Row]] = {}
    if not json:
        print_line(f"{date}, {machine['device']}, torch {machine['torch']}, {machine['num_threads']} threads")
    for name, bench in benches.items():
        tables[name] = _measured(bench.entries)
        if not json:  # each at once: all of them take up to an hour
            print_line("")
            _print_table(tables[name], bench, title=name)
    goals = reached(tables)
    if json:
        rows = [
            {"bench": name, "clock": benches[name].clock, **row.to_json()} for name in tables for row in tables[name]
        ]
        print_json({"machine": machine, "date": date, "goals": [goal.to_json() for goal in goals], "rows": rows})
        return
    print_line("")
    cells = []
    for goal in goals:
        wanted = f"at {'most' if goal.at_most else 'least'} {goal.wanted:.2f}"
        cells.append([goal.name, wanted, f"{goal.measured:.2f}", "reached" if goal.is_reached else "missed"])
    print_rows(["goal", "wanted", "measured", ""], cells)


def _benches(place: "torch.device") -> "dict[str, Bench]":
    """Every benchmark at the sizes of ``bench all``."""
    from workbench.bench.data import data_bench
    from workbench.bench.losses import LossMeasurement, losses_bench
    from workbench.bench.peer import Match, peer_bench
    from workbench.bench.step import step_bench, step_config
    from workbench.bench.training import SIZES, cache_bench, cohort_bench

    return {
        "peer": peer_bench(Match(device=place)),
        "cohort": cohort_bench(place),
        "cache": cache_bench([(size, size.batch_size) for size in SIZES.values()], place),
        "data": data_bench(["samples", "photographs-256"]),
        "step": step_bench(step_config("clip-kd", [f"train.device={place.type}"])),
        "losses": losses_bench(LossMeasurement(LOSS_WIDTH, place, STRAIGHTFORWARD_UP_TO), ["mixture"], [512, 2048]),
    }


def _device(name: str) -> "torch.device":
    """The device of this name.

    Raises:
        ValueError: unknown, or not on this machine.
    """
    from workbench.engine.device import resolve_device

    if name not in DEVICES:
        raise unknown("device", name, DEVICES)
    return resolve_device(name)


def _check(least: int, option: str, value: int) -> None:
    if value < least:
        raise ValueError(f"{option} must be at least {least} (got {value})")


def _report(bench: "Bench", place: "torch.device", json: bool, **facts: object) -> None:
    """Measure, then print a table, or facts and rows as JSON."""
    rows = _measured(bench.entries)
    if json:
        print_json(_document(bench, place, rows, **facts))
    else:
        _print_table(rows, bench)


def _document(bench: "Bench", place: "torch.device", rows: "list[Row]", **facts: object) -> dict[str, Any]:
    from workbench.engine.device import machine_facts

    return {"machine": machine_facts(place), **facts, "clock": bench.clock, "rows": [row.to_json() for row in rows]}


def _measured(entries: Mapping[str, Callable[[], list[Line]]]) -> list[Line]:
    """The rows of all entries, with progress on stderr: a bar in a terminal, a line per entry elsewhere."""
    rows: list[Line] = []
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("", total=len(entries))
        for label, measure in entries.items():
            progress.update(task, description=escape(label))
            if not errors.is_terminal:
                print_note(label)
            rows += measure()
            progress.advance(task)
    return rows


def _print_table(rows: "list[Row]", bench: "Bench", title: str | None = None) -> None:
    """Print the rows without empty columns, and the meaning of the ratios."""
    columns: Mapping[str, Callable[[Row], str]] = {
        "case": lambda row: row.case,
        "pairs": lambda row: f"{row.size:,}",
        "CPU time" if bench.clock == "cpu" else "time": lambda row: _time(row.time_s),
        "share": lambda row: _number(row.share, ".1%"),
        "pairs/s": lambda row: _number(row.pairs_per_s, ",.0f"),
        "peak MB": lambda row: _number(row.peak_mb, ",.1f"),
        "times faster": lambda row: _number(row.ratio, ".2f"),
        "times bound": lambda row: _number(row.floor_ratio, ".2f"),
    }
    cells = {heading: [shown(row) for row in rows] for heading, shown in columns.items()}
    cells = {heading: column for heading, column in cells.items() if set(column) != {DASH}}
    print_rows(list(cells), [list(row) for row in zip(*cells.values(), strict=True)], title)
    print_line(bench.meaning)


def _time(time_s: float) -> str:
    """A duration in seconds, or in milliseconds below one second."""
    return f"{time_s:.2f} s" if time_s >= 1 else f"{1000 * time_s:.2f} ms"


def _number(value: float | None, form: str) -> str:
    return DASH if value is None else format(value, form)
