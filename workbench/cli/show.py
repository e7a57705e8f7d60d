"""``workbench runs show``: a run, its gradients, and its departures from the paper's settings."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.architecture import (
    Against,
    ArchitectureFlag,
    CostsFlag,
    OverTime,
    Stage,
    show_architecture,
)
from workbench.cli.detections import show_detections
from workbench.cli.options import DEFAULT_RUNS, Json, Run, RunsDir, write_figure
from workbench.cli.output import indented, print_json, print_line, print_rows, print_wrapped
from workbench.cli.train import print_summary
from workbench.errors import visible
from workbench.events import EvalDone, Warned
from workbench.figures.gradients import gradients_figure
from workbench.formatting import clock
from workbench.results.departures import run_departures
from workbench.runs.directory import RunDirectory, find_run
from workbench.runs.log import read_history
from workbench.runs.snapshots import Gradients, read_snapshot_history
from workbench.runs.summary import summarize
from workbench.views.comparison import Departures, setting_text
from workbench.views.gradients import GradientsView, gradients_view

GradientsFlag = Annotated[
    bool, typer.Option("--gradients", help="Gradient norm of each loss, and gradient conflicts between losses.")
]
DeparturesFlag = Annotated[
    bool, typer.Option("--departures", help="List settings that differ from the paper, and why they matter.")
]
ShowFigure = Annotated[
    Path | None,
    typer.Option(
        "--figure",
        metavar="FILE",
        help="With --gradients, --architecture or --detections: write a figure (png, svg or pdf).",
    ),
]
DetectionsFlag = Annotated[
    bool, typer.Option("--detections", help="What the run's detector finds in the first images that it is measured on.")
]
NUM_SHOWN = 8  # steps with gradient diagnostics; --json has all


def show(
    run: Run,
    gradients: GradientsFlag = False,
    architecture: ArchitectureFlag = False,
    stage: Stage = None,
    over_time: OverTime = False,
    against: Against = "",
    costs: CostsFlag = False,
    detections: DetectionsFlag = False,
    figure: ShowFigure = None,
    departures: DeparturesFlag = False,
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Show one run: its state, metrics and warnings, or the chosen reports.

    Examples:

        workbench runs show one --gradients --figure gradients.png
        workbench runs show small --architecture --against manual --figure layers.pdf
        workbench runs show dense-clip-kd-s0 --detections --against dense-baseline-s0 --figure detections.png
    """
    if figure and gradients + architecture + detections != 1:
        raise ValueError("--figure needs exactly one of --gradients, --architecture and --detections")
    given = {
        "--stage": stage is not None,
        "--over-time": over_time,
        "--against": against and not detections,
        "--costs": costs,
    }
    if not architecture and any(given.values()):
        raise ValueError(f"{next(filter(given.get, given))} needs --architecture")
    directory = find_run(runs, run)
    # Each report returns its JSON document, and prints itself if asked to.
    reports: dict[str, Callable[..., Any]] = {}
    if gradients:
        reports["gradients"] = partial(show_gradients, directory, figure)
    if architecture:
        reports["architecture"] = partial(
            show_architecture, directory, stage, over_time, against, costs, figure, runs_dir=runs
        )
    if detections:
        reports["detections"] = partial(show_detections, directory, against, figure, runs_dir=runs)
    if departures:
        reports["departures"] = partial(show_departures, directory)
    if json:
        print_json(_document(directory) | {name: report(prints=False) for name, report in reports.items()})
        return
    _print_run(directory, only_state=bool(reports))
    for report in reports.values():
        report(prints=True)


def _document(directory: RunDirectory) -> dict[str, Any]:
    found = read_history(directory, (EvalDone, Warned))
    history = [
        {"step": event.step, "split": event.split, "metrics": event.metrics}
        for event in found.events
        if isinstance(event, EvalDone)
    ]
    return summarize(directory).to_document() | {"evaluations": history, "num_unreadable": found.num_skipped}


def _print_run(directory: RunDirectory, *, only_state: bool) -> None:
    print_summary(directory, json=False, metrics_too=not only_state)
    found = read_history(directory, (EvalDone, Warned))
    for event in found.events if not only_state else ():
        if isinstance(event, Warned):
            print_line(f"{clock(event.time_s)} step {event.step}: {indented(event.message)}")
    if found.num_skipped:
        print_line(f"{found.num_skipped} lines of the log could not be read")


def show_gradients(run: RunDirectory, figure: Path | None, *, prints: bool) -> dict[str, Any]:
    """The run's gradient diagnostics as a JSON document; also drawn to ``figure`` and printed if asked for.

    Raises:
        ValueError: the run has no diagnostics yet, or the figure cannot be written.
    """
    gradients = read_snapshot_history(run, Gradients)
    view = gradients_view(gradients.snapshots)
    if prints:
        _print_norms(view)
        _print_cosines(view)
        if gradients.num_skipped:
            print_line(f"{gradients.num_skipped} snapshots could not be read")
    if figure:
        write_figure(gradients_figure(view), figure)
        if prints:
            print_line(f"figure: {figure}")
    return view.to_json() | {"num_unreadable": gradients.num_skipped}


def _print_norms(view: GradientsView) -> None:
    shown = view.thinned(NUM_SHOWN)
    rows = []
    for pull in (pull for pull in view.norms if pull.step in shown):
        norms = (pull.image, pull.text, pull.image_tower, pull.text_tower)
        rows.append([str(pull.step), pull.loss, *(f"{norm:.3g}" for norm in norms), f"{pull.share:.1%}"])
    print_line("")
    print_wrapped("Gradient norm of each weighted loss at the embeddings and at the towers' weights, and its share:")
    columns = ["step", "loss", "images", "texts", "image tower", "text tower", "share"]
    print_rows(columns, rows, num_words=2)
    if len(shown) < len(view.steps):
        print_line(f"{len(shown)} of {len(view.steps)} diagnosed steps; all with --json")


def _print_cosines(view: GradientsView) -> None:
    if len(view.losses) < 2:
        return
    rows = [
        [loss, *(_cosine(float(cosine)) for cosine in cosine_K)]
        for loss, cosine_K in zip(view.losses, view.tower_cosine_KK, strict=True)
    ]
    print_line("")
    print_wrapped(f"Gradient conflict: cosines at the towers' weights after step {view.step}, * if negative")
    print_rows(["", *view.losses], rows)
    conflicts = ", ".join(f"{visible(pair.first)} and {visible(pair.second)}" for pair in view.conflicts)
    print_wrapped(f"conflicts: {conflicts}" if conflicts else "no conflicts")


def _cosine(value: float) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}") + ("*" if value < 0 else " ")


INDENT = "    "


def show_departures(run: RunDirectory, *, prints: bool) -> list[dict[str, Any]]:
    """Settings that differ from each paper whose losses the run uses, as a JSON document; printed if asked for."""
    found = run_departures(run)
    if prints:
        for departures in found:
            _print(departures)
    return [departures.to_json() for departures in found]


def _print(found: Departures) -> None:
    paper = found.paper
    print_line(f"\nsettings that differ from {paper.name} (recipe {paper.recipe}):")
    for departure in found.departures:
        theirs, ours = setting_text(departure.paper), setting_text(departure.run)
        print_wrapped(f"{departure.setting}: {theirs} in the paper, {ours} here")
        print_wrapped(departure.why, INDENT)
    print_line(f"{found.num_compared - len(found.departures)} of {found.num_compared} settings are as in the paper")
