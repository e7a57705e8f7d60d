"""``workbench runs``: list, show, compare, steer, stop, resume and fork runs."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from workbench.cli.compare import compare
from workbench.cli.completion import complete_setting
from workbench.cli.export import LogTo, check_tools, export_run
from workbench.cli.options import DEFAULT_RUNS, Json, Name, Overrides, Run, RunsDir, Trust
from workbench.cli.output import indented, print_json, print_line, print_rows
from workbench.cli.ranks import Gpus, train_on
from workbench.cli.show import show
from workbench.cli.train import Detach, follow, start_detached_run, train_as_other_rank
from workbench.config.study import flat
from workbench.config.toml import check_changes, load_run_config, read_toml, split_override
from workbench.errors import visible
from workbench.preflight.precheck import check_config
from workbench.process import check_single_process, launched_rank
from workbench.runs.checkpoints import CheckpointRemovedError
from workbench.runs.directory import RunDirectory, check_can_create, find_run, list_runs
from workbench.runs.liveness import run_status, send_command
from workbench.runs.summary import Summary, summary_or_reason
from workbench.views.metrics import metric_label
from workbench.views.query import WORDS, parse_query

app = typer.Typer(help="See, compare, stop, resume and fork runs.", no_args_is_help=True)


WhereOption = Annotated[
    str,
    typer.Option(
        metavar="QUERY",
        help="Only runs that match: words in name, state, recipe, study or cell, and comparisons such as "
        "state:finished, seed=1, fd.weight>=500 or i2t_r1>10 (in %), each negated by a - before it.",
    ),
]


@app.command("list")
def list_(runs: RunsDir = DEFAULT_RUNS, where: WhereOption = "", json: Json = False) -> None:
    """List all runs, newest first, or those that a query selects.

    Examples:

        workbench runs list
        workbench runs list --where "loss.fd.weight>=500 state:finished i2t_r1>10"
        workbench runs list --runs other/runs --json
    """
    summaries = [summary_or_reason(run) for run in list_runs(runs)]
    if where:
        summaries = _matching(summaries, where)
    if json:
        print_json({"runs": [summary.to_document() for summary in summaries]})
        return
    if not summaries and where:
        print_line(f"no run in {runs} matches: {visible(where)}")
        return
    if not summaries:
        print_line(f"{runs} holds no runs yet; start one with: workbench train --recipe clip-kd")
        return
    labels = [metric_label(name) for name in ("image_to_text_r1", "text_to_image_r1", "zero_shot_top1")]
    rows = []
    for summary in summaries:
        metrics = [label.number(summary.metrics.get(label.name)) for label in labels]
        progress = f"{summary.step}/{summary.num_steps}"
        rows.append([summary.id, summary.state, progress, *metrics, f"{summary.elapsed_s:.0f} s"])
    print_rows(["run", "state", "step", "I→T R@1 %", "T→I R@1 %", "zero-shot %", "trained"], rows, num_words=2)
    for summary in summaries:
        if summary.state == "unreadable":
            print_line(f"{visible(summary.id)}: {indented(summary.reason)}")


def _matching(summaries: Sequence[Summary], where: str) -> list[Summary]:
    """The runs that a query selects. Raises ValueError if it names what no run has."""
    records = {summary.id: _record(summary) for summary in summaries}
    query = parse_query(where, dict.fromkeys(name for record in records.values() for name in record))
    words = {name: " ".join(str(record.get(word) or "") for word in WORDS) for name, record in records.items()}
    return [summary for summary in summaries if query.matches(records[summary.id].get, words[summary.id])]


def _record(summary: Summary) -> dict[str, Any]:
    """A run's settings, results and place in its study, by the names that the dashboard's queries use."""
    try:
        table = read_toml(RunDirectory(Path(summary.dir)).config_file)
    except ValueError:
        table = {}  # unreadable, which its line says
    origin = table.pop("sweep", None) or {}
    found = flat(table) | {"name": summary.id, "state": summary.state, "step": summary.step}
    found |= {name: origin.get(name) for name in ("study", "cell")}
    found["progress"] = 100 * summary.step / summary.num_steps if summary.num_steps else None
    return found | {name: value * metric_label(name).factor for name, value in summary.metrics.items()}


app.command()(show)


@app.command()
def stop(run: Run, runs: RunsDir = DEFAULT_RUNS, json: Json = False) -> None:
    """Stop a run after its current step, with a checkpoint to resume from.

    Examples:

        workbench runs stop clip-kd-s0-1122-1405
    """
    directory = find_run(runs, run)
    send_command(directory, "stop")
    if json:
        print_json({"id": directory.id, "state": "stopping"})
        return
    print_line(f"{directory.id} will stop after its current step; resume it with: workbench runs resume {quote(run)}")


OverridesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="New path of moved files, e.g. data.train or teacher.model. Repeatable.",
        autocompletion=complete_setting,
    ),
]


@app.command()
def resume(
    run: Run,
    overrides: OverridesOption = None,
    log_to: LogTo = None,
    gpus: Gpus = 1,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
    json: Json = False,
) -> None:
    """Resume a run that was stopped, interrupted or killed, from its newest checkpoint.

    If its data or teacher have moved, give their new paths with --set; fingerprints check that they are the same.
    For any other change, use: workbench runs fork.

    Examples:

        workbench runs resume clip-kd-s0-1122-1405
        workbench runs resume clip-kd-s0-1122-1405 --log-to tensorboard
        workbench runs resume copied/run --set "data.train=/data/pairs.tar" --set teacher.model=teachers/mine
    """
    if launched_rank():
        train_as_other_rank()
        return
    check_tools(log_to)
    directory = find_run(runs, run)
    if run_status(directory).state == "finished":
        raise ValueError(f"run {directory.id} is finished: there is nothing to resume")
    config = load_run_config(directory.config_file)
    if overrides:
        from workbench.engine.settings import moved

        config, _ = moved(directory, overrides)
    check_config(config, directory.path.parent)
    if train_on(gpus):
        return
    # After the checks: this imports torch.
    from workbench.engine.distributed import joined
    from workbench.engine.launch import relaunch

    with joined() as ranks:
        follow(relaunch(directory, overrides=overrides or [], ranks=ranks), json, log_to)


app.command()(compare)


At = Annotated[int | None, typer.Option("--at", metavar="STEP", help="The checkpoint's step; the newest if not given.")]
Steps = Annotated[
    int | None,
    typer.Option("--steps", help="The fork's last step, counted from its parent's start; schedules scale with it."),
]


@app.command()
def fork(
    run: Run,
    at: At = None,
    overrides: Overrides = None,
    steps: Steps = None,
    name: Name = None,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
    detach: Detach = False,
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
    from workbench.engine.fork import Fork, plan_fork, start_fork  # imports torch

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
        # A run that saves often has replaced its newest checkpoint since.
        planned, run_id = plan()
        directory = planned.create(run_id)
    if detach:
        start_detached_run(directory, json, log_to)
    else:
        follow(start_fork(directory), json, log_to)


@app.command()
def pause(run: Run, runs: RunsDir = DEFAULT_RUNS, json: Json = False) -> None:
    """Pause a run after its current step; its process stays in memory.

    Runs in the same cohort (the other cells of a sweep's seed) pause with it.

    Examples:

        workbench runs pause clip-kd-s0-1122-1405
    """
    outcome = f"pauses after its current step; continue with: workbench runs continue {quote(run)}"
    _send(runs, run, json, "pause", outcome)


@app.command("continue")
def go_on(run: Run, runs: RunsDir = DEFAULT_RUNS, json: Json = False) -> None:
    """Continue a paused run.

    Examples:

        workbench runs continue clip-kd-s0-1122-1405
    """
    _send(runs, run, json, "continue", "continues")


@app.command()
def checkpoint(run: Run, runs: RunsDir = DEFAULT_RUNS, json: Json = False) -> None:
    """Save a checkpoint after the current step.

    Examples:

        workbench runs checkpoint clip-kd-s0-1122-1405
    """
    _send(runs, run, json, "checkpoint", "saves a checkpoint after its current step")


@app.command("set")
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


app.command("export")(export_run)
