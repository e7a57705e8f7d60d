"""``workbench runs``: list, show, stop, resume."""

from datetime import datetime

import typer

from workbench.cli.options import DEFAULT_RUNS, Json, Run, RunsDir

app = typer.Typer(help="See, stop and resume runs.", no_args_is_help=True)


@app.command("list")
def list_(runs: RunsDir = DEFAULT_RUNS, json: Json = False) -> None:
    """Every run, the newest first."""
    from workbench.cli.output import print_json, print_line, print_rows
    from workbench.runs.directory import list_runs
    from workbench.runs.summary import read_summary

    summaries = [read_summary(run) for run in list_runs(runs)]
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
                f"{summary.metrics[name]:.3f}" if name in summary.metrics else "-"
                for name in ("image_to_text_r1", "text_to_image_r1", "zero_shot_top1")
            ),
            f"{summary.elapsed_s:.0f} s",
        ]
        for summary in summaries
    ]
    print_rows(["run", "state", "step", "I→T R@1", "T→I R@1", "zero-shot", "trained"], rows, num_words=2)


@app.command()
def show(run: Run, runs: RunsDir = DEFAULT_RUNS, json: Json = False) -> None:
    """One run: how it stands, what it measured, and what it warned of."""
    from workbench.cli.output import print_json, print_line
    from workbench.cli.train import print_summary
    from workbench.events import EvalDone, Warned
    from workbench.runs.directory import find_run
    from workbench.runs.log import effective_events, read_events
    from workbench.runs.summary import summarise

    directory = find_run(runs, run)
    found = read_events(directory.events_file)
    events = effective_events(found.events)
    evaluations = [event for event in events if isinstance(event, EvalDone)]
    if json:
        history = [{"step": event.step, "split": event.split, "metrics": event.metrics} for event in evaluations]
        print_json(summarise(directory).to_document() | {"evaluations": history, "num_unreadable": found.num_skipped})
        return
    print_summary(directory, json=False)
    for event in events:
        if isinstance(event, Warned):
            clock = datetime.fromtimestamp(event.time_s).strftime("%H:%M:%S")
            print_line(f"{clock} step {event.step}: {event.message}")
    if found.num_skipped:
        print_line(f"{found.num_skipped} lines of the log could not be read")


@app.command()
def stop(run: Run, runs: RunsDir = DEFAULT_RUNS, json: Json = False) -> None:
    """Ask a run to finish its step, save and end; it can be resumed."""
    from workbench.cli.output import print_json, print_line
    from workbench.runs.control import send_command
    from workbench.runs.directory import find_run

    directory = find_run(runs, run)
    send_command(directory, "stop")
    if json:
        print_json({"id": directory.id, "state": "stopping"})
        return
    print_line(f"{directory.id} will stop after its current step; resume it with: workbench runs resume {run}")


@app.command()
def resume(run: Run, runs: RunsDir = DEFAULT_RUNS, json: Json = False) -> None:
    """Go on with a run that stopped, was interrupted or died, from its newest checkpoint."""
    from workbench.cli.train import follow
    from workbench.engine.launch import relaunch
    from workbench.runs.directory import find_run
    from workbench.runs.liveness import run_status

    directory = find_run(runs, run)
    if run_status(directory).state == "finished":
        raise ValueError(f"run {directory.id} is finished: nothing is left to train")
    follow(relaunch(directory), json)
