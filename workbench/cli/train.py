"""``workbench train``, and what every command that trains one run shares: progress, summary, detached start."""

import shutil
import time
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from workbench.cli.export import LogTo, check_tools, logging_to
from workbench.cli.options import (
    DEFAULT_RUNS,
    Json,
    Name,
    NoTest,
    Overrides,
    Recipe,
    RunsDir,
    Seed,
    Steps,
    Trust,
    without_test,
)
from workbench.cli.output import errors, indented, print_json, print_line, print_metrics
from workbench.cli.preflight import calibrated
from workbench.cli.progress import interruptible, show
from workbench.cli.ranks import Gpus, train_on
from workbench.cli.suite import print_results
from workbench.config.run import RunConfig
from workbench.config.toml import load_recipe
from workbench.errors import print_error, unknown
from workbench.events import RunFinished
from workbench.preflight.precheck import check_config
from workbench.process import check_single_process, launched_rank, start_background, why_failed
from workbench.progress import phase
from workbench.runs.directory import RunDirectory, check_can_create, new_run_id
from workbench.runs.liveness import run_status
from workbench.runs.summary import Summary, summarize

if TYPE_CHECKING:
    from workbench.engine.launch import Launch

MODES = ("auto", "on", "off")
CacheTeacher = Annotated[
    str | None,
    typer.Option(
        "--cache-teacher",
        metavar="|".join(MODES),
        help="Read teacher embeddings from disk; on creates the cache, auto only if it saves time (teacher.cache).",
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="Train in a background process and return.")]


def train(
    recipe: Recipe = "clip-kd",
    overrides: Overrides = None,
    steps: Steps = None,
    seed: Seed = None,
    name: Name = None,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
    no_test: NoTest = False,
    detach: Detach = False,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Set the loss weights for equal shares of the gradient.")
    ] = False,
    cache_teacher: CacheTeacher = None,
    log_to: LogTo = None,
    gpus: Gpus = 1,
    json: Json = False,
) -> None:
    """Train one student with the losses of a recipe.

    Examples:

        workbench train --recipe clip-kd
        workbench train --recipe clip-kd --set loss.icl.weight=2 --steps 100
        workbench train --recipe clip-kd --steps 20 --no-test
        workbench train --recipe clip-kd --calibrate
        workbench train --recipe clip-kd --log-to tensorboard
        workbench train --set "data.train=pairs/{0000..0009}.tar" --set data.validation=held-out.tar
        workbench train --recipe clip-kd --gpus 2
        torchrun --nproc-per-node 2 -m workbench train --recipe clip-kd
    """
    if launched_rank():
        train_as_other_rank()
        return
    check_tools(log_to)
    overrides = without_test(with_cache(overrides, cache_teacher), no_test)
    if detach:
        check_single_process()  # the process in the background starts its own ranks, with --gpus
    run_id, config = checked_run(recipe, overrides, steps, seed, name, runs)
    if not detach and train_on(gpus):
        return
    if calibrate:
        config = calibrated(config, runs)

    with phase("loading PyTorch"):  # after the checks, so that a typo is reported at once
        from workbench.engine.distributed import joined
        from workbench.engine.launch import create, launch

    if detach:
        start_detached_run(create(run_id, config, runs), json, log_to, gpus)
        return
    with joined() as ranks:
        follow(launch({run_id: config}, runs, ranks=ranks), json, log_to)


def train_as_other_rank() -> None:
    """Train with rank 0, which prints and writes everything."""
    from workbench.engine.distributed import joined
    from workbench.engine.launch import train_along

    with interruptible(prints=False) as interrupt, joined() as ranks:
        try:
            train_along(ranks, interrupt)
        except RuntimeError as error:
            # In most cases another rank has ended, which has said why; rank 0 reports what concerns all of them.
            raise typer.Exit(1) from error
    if interrupt.exit_code:
        raise typer.Exit(interrupt.exit_code)


def with_cache(overrides: list[str] | None, cache_teacher: str | None) -> list[str] | None:
    """The overrides with that of ``--cache-teacher``."""
    if cache_teacher is None:
        return overrides
    if cache_teacher not in MODES:
        raise unknown("--cache-teacher", cache_teacher, MODES)
    return [*(overrides or []), f"teacher.cache={cache_teacher}"]


def checked_run(
    recipe: str, overrides: list[str] | None, steps: int | None, seed: int | None, name: str | None, runs: Path
) -> tuple[str, RunConfig]:
    """The id and config of a new run, checked without importing torch.

    Raises:
        ValueError: the run cannot be created, or its config cannot be trained.
    """
    config = load_recipe(recipe, overrides, seed=seed, steps=steps)
    run_id = name or new_run_id(recipe, config.seed, runs)
    check_can_create(runs, run_id)
    check_config(config, runs)
    return run_id, config


def follow(started: "Launch", json: bool, log_to: list[str] | None = None, *, prints: bool = True) -> None:
    """Train the one run of a launch with progress on stderr, then print its summary; the exit status is the run's."""
    (directory,) = started.directories.values()
    end: RunFinished | None = None
    with logging_to(directory, log_to), interruptible() as interrupt:
        try:
            for event in show(started.events(interrupt), started.cohort.total_steps):
                end = event if isinstance(event, RunFinished) else end
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            if end is None:  # else the failure is already on stderr
                print_error(f"workbench: run {directory.id} failed: {error}")
            raise typer.Exit(1) from None
    # Someone may have removed the run's folder: then there is no summary to print.
    if end and not directory.exists:
        print_error(f"workbench: run {directory.id} failed: {end.reason}")
        raise typer.Exit(1)
    summary = print_summary(directory, json) if prints else summarize(directory)
    if interrupt.exit_code:
        raise typer.Exit(interrupt.exit_code)
    if summary.state in ("diverged", "failed"):
        raise typer.Exit(1)


def print_summary(directory: RunDirectory, json: bool, *, metrics_too: bool = True) -> Summary:
    """Print a run's state and metrics as tables or JSON; without ``metrics_too`` only its state."""
    summary = summarize(directory)
    if json:
        print_json(summary.to_document())
        return summary
    print_line(f"{directory.path}: {summary.state} at step {summary.step} of {summary.num_steps}")
    if summary.reason:
        print_line(indented(summary.reason))
    for split, metrics, standard_errors, levels in (
        ("validation", summary.metrics, summary.errors, {"teacher": summary.teacher_metrics, "chance": summary.chance}),
        (
            "test",
            summary.test_metrics,
            summary.test_errors,
            {"teacher": summary.test_teacher_metrics, "chance": summary.test_chance},
        ),
    ):
        if metrics and metrics_too:
            print_metrics(metrics, standard_errors, split, **levels)
    if metrics_too:
        print_results(summary.suites)
    if summary.state in ("stopped", "interrupted"):
        print_line(f"resume it with: workbench runs resume {quote(str(directory.path))}")
    return summary


def start_detached_run(directory: RunDirectory, json: bool, log_to: list[str] | None = None, gpus: int = 1) -> None:
    """Train a new run in a background process that outlives this terminal.

    Raises:
        ValueError: the process ended before training started, with the reason; the run's folder is removed.
    """
    # A new run is "resumed" from step 0: its folder and config exist already.
    options = [*(f"--log-to={tool}" for tool in log_to or []), f"--gpus={gpus}"]
    process = start_background(["runs", "resume", str(directory.path), *options], directory.output_file)
    with errors.status(Text(f"starting {directory.id}")):
        while not run_status(directory).num_steps and process.is_alive:
            time.sleep(0.1)
    if not run_status(directory).num_steps:  # no start in its log
        reason = why_failed(process.last_line)
        shutil.rmtree(directory.path)
        raise ValueError(f"the run did not start: {reason}")
    if json:
        print_json(summarize(directory).to_document())
        return
    print_line(f"{directory.id} is training as process {process.pid}; its output goes to {directory.output_file}")
    print_line(f"watch it with: workbench runs show {quote(str(directory.path))}")
