"""``workbench evaluate --suite``: a list of evaluations, printed as one table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.completion import complete_suite
from workbench.cli.output import print_json, print_line, print_rows, print_step
from workbench.config.suite import Suite, load_suite
from workbench.progress import phase
from workbench.runs.suites import SuiteResult
from workbench.views.suite import COLUMNS, suite_views, summaries

if TYPE_CHECKING:
    from workbench.engine.suite import Outcome

SuiteName = Annotated[
    str | None,
    typer.Option(
        "--suite",
        metavar="NAME|FILE",
        help="Run a list of evaluations: papers, clip_benchmark, or a TOML file.",
        autocompletion=complete_suite,
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(
        "--root",
        metavar="DIR",
        envvar="WORKBENCH_DATA",
        help="With --suite: the folder of the data sets.",
        show_default="the suite's, or the working directory",
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="NAME", help="With --suite: this evaluation only. Repeatable."),
]


def chosen_suite(name: str, only: list[str] | None) -> Suite:
    """The suite of ``--suite``, with the evaluations of ``--only``.

    Raises:
        ValueError: an unknown suite or evaluation, or a bad file.
    """
    return load_suite(name).only(only or [])


def evaluate_suite(source: str, suite: Suite, root: Path | None, runs: Path, *, json: bool) -> None:
    """Measure and print a suite; evaluations whose data are missing are listed with the reason.

    Raises:
        ValueError: there is no model, or none of the data.
        Exit: with status 1 if data could not be used.
    """
    folder = root or Path(suite.root)
    with phase("loading PyTorch"):
        from workbench.engine.suite import run_suite

    outcomes = []
    for outcome in run_suite(source, suite, folder, runs):
        outcomes.append(outcome)
        print_step(f"{outcome.evaluation.name}: {outcome.state}")
    results = [outcome.result for outcome in outcomes if outcome.result]
    if json:
        print_json(_document(source, suite, folder, outcomes))
    else:
        print_results(results)
        _print_rest(outcomes)
    if not results and all(outcome.state == "skipped" for outcome in outcomes):
        raise ValueError(f"none of the data of suite {suite.name} are in '{folder}': name their folder with --root DIR")
    if any(outcome.state == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def print_results(results: list[SuiteResult]) -> None:
    """Print a table per suite."""
    for view in suite_views(results):
        print_rows(COLUMNS, view.table(), view.name, num_words=2)
    for result in results:
        for note in result.notes:
            print_line(f"{result.name}: {note}")


def _print_rest(outcomes: "list[Outcome]") -> None:
    for outcome in outcomes:
        if outcome.reason:
            print_line(f"{outcome.evaluation.name} {outcome.state}: {outcome.reason}")
    if reused := sum(outcome.state == "reused" for outcome in outcomes):
        print_line(f"{reused} of {len(outcomes)} were measured before, with the same weights and data")


def _document(source: str, suite: Suite, root: Path, outcomes: "list[Outcome]") -> dict[str, Any]:
    results = [outcome.result for outcome in outcomes if outcome.result]
    return {
        "source": source,
        "suite": suite.name,
        "root": str(root),
        "evaluations": [
            {"name": outcome.evaluation.name, "state": outcome.state, "reason": outcome.reason}
            | (outcome.result.model_dump(mode="json") if outcome.result else {})
            for outcome in outcomes
        ],
        "summaries": [summary.to_json() for summary in summaries(results)],
    }
