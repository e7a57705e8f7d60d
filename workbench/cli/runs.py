"""``workbench runs``: list, show, stop and resume runs; the other commands of the group come from their modules."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from workbench.cli.architecture import (
    Against,
    ArchitectureFlag,
    ArchitectureOptions,
    CostsFlag,
    OverTime,
    Stage,
    architecture_options,
    show_architecture,
)
from workbench.cli.compare import compare
from workbench.cli.completion import complete_setting
from workbench.cli.control import checkpoint, fork, go_on, pause, set_
from workbench.cli.export_logs import LogTo, check_tools, export
from workbench.cli.options import DEFAULT_RUNS, Json, Run, RunsDir, Trust
from workbench.cli.output import indented, print_json, print_line, print_rows
from workbench.cli.show import show_departures, show_gradients
from workbench.cli.train import follow, print_summary
from workbench.config.toml import load_run_config
from workbench.errors import visible
from workbench.events import EvalDone, Warned
from workbench.formatting import clock
from workbench.preflight.precheck import check_config
from workbench.process import check_single_process
from workbench.runs.directory import find_run, list_runs
from workbench.runs.liveness import run_status, send_command
from workbench.runs.log import read_history
from workbench.runs.summary import summarize, summary_or_reason
from workbench.views.metrics import metric_label

app = typer.Typer(help="See, compare, stop, resume and fork runs.", no_args_is_help=True)


@app.command("list")
def list_(runs: RunsDir = DEFAULT_RUNS, json: Json = False) -> None:
    """List all runs, newest first.

    Examples:

        workbench runs list

        workbench runs list --runs other/runs --json
    """
    summaries = [summary_or_reason(run) for run in list_runs(runs)]
    if json:
        print_json({"runs": [summary.to_document() for summary in summaries]})
        return
    if not summaries:
        print_line(f"{runs} holds no runs yet; start one with: workbench train --recipe clip-kd")
        return
    rows = [
        [
            summary.id,
            summary.state,
            f"{summary.step}/{summary.num_steps}",
            *(
                metric_label(name).number(summary.metrics.get(name))
                for name in ("image_to_text_r1", "text_to_image_r1", "zero_shot_top1")
            ),
            f"{summary.elapsed_s:.0f} s",
        ]
        for summary in summaries
    ]
    print_rows(["run", "state", "step", "I→T R@1 %", "T→I R@1 %", "zero-shot %", "trained"], rows, num_words=2)
    for summary in summaries:
        if summary.state == "unreadable":
            print_line(f"{visible(summary.id)}: {indented(summary.reason)}")


@app.command()
def show(
    run: Run,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Gradient norm of each loss, and gradient conflicts between losses.")
    ] = False,
    architecture: ArchitectureFlag = False,
    stage: Stage = None,
    over_time: OverTime = False,
    against: Against = "",
    costs: CostsFlag = False,
    figure: Annotated[
        Path | None,
        typer.Option(
            "--figure", metavar="FILE", help="With --gradients or --architecture: write a figure (png, svg or pdf)."
        ),
    ] = None,
    departures: Annotated[
        bool, typer.Option("--departures", help="List settings that differ from the paper, and why they matter.")
    ] = False,
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Show one run: its state, metrics and warnings, or the chosen reports.

    Examples:

        workbench runs show one --gradients --figure gradients.png

        workbench runs show small --architecture --against manual --figure layers.pdf
    """
    if figure and gradients == architecture:
        raise ValueError("--figure needs exactly one of --gradients and --architecture")
    shown = architecture_options(architecture, ArchitectureOptions(stage, against, costs, over_time))
    directory = find_run(runs, run)
    # Each report returns its JSON document, and prints itself if asked to.
    reports: dict[str, Callable[..., Any]] = {
        **({"gradients": partial(show_gradients, directory, figure)} if gradients else {}),
        **({"architecture": partial(show_architecture, directory, shown, figure, runs)} if shown else {}),
        **({"departures": partial(show_departures, directory)} if departures else {}),
    }
    found = read_history(directory, (EvalDone, Warned))
    evaluations = [event for event in found.events if isinstance(event, EvalDone)]
    if json:
        history = [{"step": event.step, "split": event.split, "metrics": event.metrics} for event in evaluations]
        document = summarize(directory).to_document() | {"evaluations": history, "num_unreadable": found.num_skipped}
        print_json(document | {name: report(prints=False) for name, report in reports.items()})
        return
    print_summary(directory, json=False, metrics_too=not reports)
    for event in found.events if not reports else ():
        if isinstance(event, Warned):
            print_line(f"{clock(event.time_s)} step {event.step}: {indented(event.message)}")
    if found.num_skipped:
        print_line(f"{found.num_skipped} lines of the log could not be read")
    for report in reports.values():
        report(prints=True)


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


@app.command()
def resume(
    run: Run,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="New path of moved files, e.g. data.train or teacher.model. Repeatable.",
            autocompletion=complete_setting,
        ),
    ] = None,
    log_to: LogTo = None,
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
    check_single_process()
    check_tools(log_to)
    directory = find_run(runs, run)
    if run_status(directory).state == "finished":
        raise ValueError(f"run {directory.id} is finished: there is nothing to resume")
    config = load_run_config(directory.config_file)
    if overrides:
        from workbench.engine.settings import moved

        config, _ = moved(directory, overrides)
    check_config(config, directory.path.parent)
    # After the checks: this imports torch.
    from workbench.engine.launch import relaunch

    follow(relaunch(directory, overrides=overrides or []), json, log_to)


app.command()(compare)
app.command()(fork)
app.command()(pause)
app.command("continue")(go_on)
app.command()(checkpoint)
app.command("set")(set_)
app.command()(export)
