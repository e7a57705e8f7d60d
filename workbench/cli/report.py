"""``workbench report``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.completion import complete_report_format, complete_study
from workbench.cli.options import DEFAULT_RUNS, Json, RunsDir

if TYPE_CHECKING:
    from workbench.report.study import StudyReport

REPORTS = Path("reports")
UNASKED = "told by its runs, without a baseline and the paper's figures: name the study's file for these"
Study = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="A study's name (see `workbench studies`) or file.", autocompletion=complete_study
    ),
]


def report(
    name_or_file: Study = "",
    all_studies: Annotated[
        bool, typer.Option("--all", help="Of every study that has run to its end, with an index of what was found.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Of the rehearsal that `sweep --quick` made.")] = False,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The name that the sweep was given.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where to write; reports/NAME if not given.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="md|csv|tex|png|svg|pdf",
            help="What to write; tex is LaTeX. Repeatable.",
            show_default="md, csv, tex, png",
            autocompletion=complete_report_format,
        ),
    ] = None,
    misnamed: Annotated[
        bool, typer.Option("--latex", "--tex", "--csv", "--markdown", "--md", "--png", "--svg", "--pdf", hidden=True)
    ] = False,
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """What a study has found: a table with intervals, ours beside the paper's.

    Works while the sweep is running: what is missing is said. Writes Markdown,
    CSV, LaTeX and figures; with --json, files only where --out names a folder.

    With --all --out studies/results, `workbench studies` says what was found. A
    finding.md that you lay beside a report opens its part of the index.

    Examples:

        workbench report icl_weight

        workbench report icl_weight --out paper/tables --format tex --format pdf

        workbench report clip_kd_search --json

        workbench report --all --out studies/results
    """
    from workbench.report.write import DEFAULT_FORMATS, check_formats

    if misnamed:
        raise ValueError("say what to write with --format md|csv|tex|png|svg|pdf, for example --format tex")
    check_formats(formats or ())
    if json and formats and not out:
        raise ValueError("--format is about files, and --json writes none unless --out names a folder: add --out DIR")
    if all_studies and (name_or_file or quick or name):
        raise ValueError("--all takes every study: leave out STUDY, --quick and --name")
    if not (all_studies or name_or_file):
        raise ValueError("of which study? Name one (see `workbench studies`), or ask for --all")
    if all_studies:
        _report_all(runs, out, formats or DEFAULT_FORMATS, json)
    else:
        _report_one(_found(name_or_file, quick, name, runs), out, formats or DEFAULT_FORMATS, json)


def _found(name_or_file: str, quick: bool, name: str, runs: Path) -> "StudyReport":
    from workbench.config.study import stored_name
    from workbench.report.study import report_on
    from workbench.runs.summary import find_study, studies_with_runs

    asked = find_study(name_or_file, runs)
    quick = quick or asked.source != name_or_file
    study = asked.study.quick() if quick else asked.study
    full_name = stored_name(study, name, quick=quick)
    found = report_on(study, full_name, runs, asked.source)
    if not found.has_runs:
        rehearsed = not quick and stored_name(study, name, quick=True) in studies_with_runs(runs)
        remedy = "it was rehearsed, add --quick" if rehearsed else f"begin it with {found.made_on.command}"
        raise ValueError(f"{runs} has no run of study '{full_name}' yet: {remedy}")
    return found


def _report_one(found: "StudyReport", out: Path | None, formats: list[str] | tuple[str, ...], json: bool) -> None:
    from workbench.cli.output import print_json, print_line
    from workbench.report.write import document, write_report

    files = write_report(found, out or REPORTS / found.table.name, formats) if out or not json else []
    if json:
        print_json(document(found, [str(path) for path in files]))
        return
    _print(found)
    for path in files:
        print_line(str(path))


def _report_all(runs: Path, out: Path | None, formats: list[str] | tuple[str, ...], json: bool) -> None:
    from workbench.cli.output import errors, print_json, print_line
    from workbench.config.study import QUICK
    from workbench.report.results import is_answered, write_results
    from workbench.report.study import report_on
    from workbench.report.words import progress
    from workbench.report.write import document
    from workbench.runs.summary import find_study, known_studies, studies_with_runs

    begun = [name for name in studies_with_runs(runs) if name in known_studies(runs) and not name.endswith(QUICK)]
    every = [report_on(find_study(study, runs).study, study, runs) for study in begun]
    answered = [found for found in every if is_answered(found)]
    for found in every:
        if found not in answered:
            said = f"left out {found.table.name}, which has not run to its end: {progress(found.table.cells)}"
            errors.print(said, markup=False)
    if not answered:
        raise ValueError(f"{runs} has no study that has run to its end: `workbench report STUDY` shows one under way")
    files = write_results(answered, out or REPORTS, formats) if out or not json else []
    if json:
        print_json({"reports": [document(found) for found in answered], "files": [str(path) for path in files]})
        return
    for path in files:
        print_line(str(path))


def _print(found: "StudyReport") -> None:
    """The main metric's table and what it says; the rest is in the files."""
    from workbench.cli.output import console, print_rows
    from workbench.report.markdown import legend, shown_cells
    from workbench.report.tables import grid
    from workbench.report.words import findings, progress, troubles
    from workbench.terminal import visible

    def say(text: str) -> None:
        console.print(visible(text), markup=False)

    say(found.table.question or UNASKED)
    say(progress(found.table.cells))
    if found.main:
        table = grid(found.table, found.main, shown_cells(found))
        say("")
        print_rows(list(table.columns), [list(row) for row in table.rows])
    say("")
    for line in (*findings(found), *troubles(found.table.cells)):
        say(f"- {line}")
    say("")
    for line in legend(found):
        say(line)
    say("")
