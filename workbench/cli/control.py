"""``workbench runs pause | continue | checkpoint | set | fork``: commands to a running run, and forks."""

from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from workbench.cli.export_logs import LogTo, check_tools
from workbench.cli.options import DEFAULT_RUNS, Json, Name, Overrides, Run, RunsDir, Trust
from workbench.cli.output import print_json, print_line
from workbench.cli.train import follow, start_detached_run
from workbench.config.toml import check_changes, load_run_config, split_override
from workbench.engine.fork import Fork, plan_fork, start_fork
from workbench.preflight.precheck import check_config
from workbench.process import check_single_process
from workbench.runs.checkpoints import CheckpointRemovedError
from workbench.runs.directory import check_can_create, find_run
from workbench.runs.liveness import send_command


def pause(run: Run, runs: RunsDir = DEFAULT_RUNS, json: Json = False) -> None:
    """Pause a run after its current step; its process stays in memory.

    Runs in the same cohort (the other cells of a sweep's seed) pause with it.

    Examples:

        workbench runs pause clip-kd-s0-1122-1405
    """
    _send(
        runs,
        run,
        json,
        "pause",
        f"pauses after its current step; continue with: workbench runs continue {quote(run)}",
    )


def go_on(run: Run, runs: RunsDir = DEFAULT_RUNS, json: Json = False) -> None:
    """Continue a paused run.

    Examples:

        workbench runs continue clip-kd-s0-1122-1405
    """
    _send(runs, run, json, "continue", "continues")


def checkpoint(run: Run, runs: RunsDir = DEFAULT_RUNS, json: Json = False) -> None:
    """Save a checkpoint after the current step.

    Examples:

        workbench runs checkpoint clip-kd-s0-1122-1405
    """
    _send(runs, run, json, "checkpoint", "saves a checkpoint after its current step")


def set_(
    run: Run,
    changes: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE...", help="optimizer.learning_rate or loss.NAME.weight.")
    ],
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Change the peak learning rate or a loss weight from the next step on.

    The change is logged as an event, and a resumed run applies it again; run.toml stays unchanged.

    Examples:

        workbench runs set fd-long optimizer.learning_rate=5e-4

        workbench runs set fd-long loss.fd.weight=500 loss.clip.weight=0.5
    """
    # Checked here too: the run itself could only report a bad value in its log.
    settings = dict(split_override(change) for change in changes)
    check_changes(load_run_config(find_run(runs, run).config_file), settings)
    _send(runs, run, json, "set", f"applies {', '.join(changes)} from its next step on", settings)


def _send(runs: Path, run: str, json: bool, kind: str, outcome: str, arguments: dict[str, Any] | None = None) -> None:
    directory = find_run(runs, run)
    send_command(directory, kind, **(arguments or {}))
    if json:
        print_json({"id": directory.id, "command": kind, "arguments": arguments or {}})
        return
    print_line(f"{directory.id} {outcome}")


def fork(
    run: Run,
    at: Annotated[
        int | None, typer.Option("--at", metavar="STEP", help="The checkpoint's step; the newest if not given.")
    ] = None,
    overrides: Overrides = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", help="The fork's last step, counted from its parent's start; schedules scale with it."),
    ] = None,
    name: Name = None,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
    detach: Annotated[bool, typer.Option("--detach", help="Train in a background process and return.")] = False,
    log_to: LogTo = None,
    json: Json = False,
) -> None:
    """Start a new run from another run's checkpoint, with changed settings.

    It continues with its parent's weights, optimizer state and data order, and
    shares its history. All settings except the student's may change.

    Examples:

        workbench runs fork clip-kd-s0-1122-1405 --at 40 --set loss.fd.weight=500

        workbench runs fork clip-kd-s0-1122-1405 --steps 160 --name longer
    """
    check_single_process()
    check_tools(log_to)
    parent = find_run(runs, run)

    def plan() -> tuple[Fork, str]:
        planned = plan_fork(parent, at=at, overrides=overrides, num_steps=steps)
        run_id = name or planned.new_id()
        check_can_create(parent.path.parent, run_id)
        check_config(planned.config, parent.path.parent)
        return planned, run_id

    planned, run_id = plan()
    try:
        directory = planned.create(run_id)
    except CheckpointRemovedError:
        if at is not None:
            raise
        # A run that saves often replaced its newest checkpoint while torch was imported, which is done now.
        planned, run_id = plan()
        directory = planned.create(run_id)
    if detach:
        start_detached_run(directory, json, log_to)
    else:
        follow(start_fork(directory), json, log_to)
