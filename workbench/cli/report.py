"""``workbench report``: tables and figures of a study's results."""

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.completion import complete_report_format, complete_study
from workbench.cli.options import DEFAULT_RUNS, Json, RunsDir
from workbench.cli.output import console, print_json, print_line, print_note, print_rows
from workbench.config.study import QUICK
from workbench.errors import unknown, visible
from workbench.results.answers import is_answered, read_answers
from workbench.results.export import document, grid
from workbench.results.index import write_results
from workbench.results.markdown import legend, shown_cells
from workbench.results.report import StudyReport, report_on
from workbench.results.side_by_side import SideBySide, shared_findings, side_by_side
from workbench.results.words import findings, progress, troubles
from workbench.results.write import DEFAULT_FORMATS, check_formats, write_report
from workbench.results.write_sweeps import sweeps_document, sweeps_table, write_side_by_side
from workbench.runs.studies import (
    Found,
    find_study,
    known_studies,
    load_study,
    stored_name,
    studies,
    studies_with_runs,
)

REPORTS = Path("reports")
NO_STUDY_FILE = "from its runs alone: name the study's file for its baseline and the paper's numbers"
Study = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="A study's name (see `workbench studies`) or file.", autocompletion=complete_study
    ),
]


Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Output folder; reports/NAME if not given.")]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        metavar="md|csv|tex|png|svg|pdf",
        help="Output format; tex is LaTeX. Repeatable.",
        show_default="md, csv, tex, png",
        autocompletion=complete_report_format,
    ),
]
Misnamed = Annotated[
    bool, typer.Option("--latex", "--tex", "--csv", "--markdown", "--md", "--png", "--svg", "--pdf", hidden=True)
]


def report(
    name_or_file: Study = "",
    all_studies: Annotated[bool, typer.Option("--all", help="Report all finished studies, with an index.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Report the rehearsal made by `sweep --quick`.")] = False,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The sweep's --name.")] = "",
    out: Out = None,
    formats: Formats = None,
    misnamed: Misnamed = False,
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Report a study's results: tables with intervals, next to the paper's numbers.

    Also works while the sweep is running; missing runs are listed. Writes
    Markdown, CSV, LaTeX and figures; with --json, only if --out names a folder.

    After --all --out studies/results, `workbench studies` shows the answers. A
    finding.md in a report's folder becomes the start of its entry in the index.

    Examples:

        workbench report icl_weight
        workbench report icl_weight --out paper/tables --format tex --format pdf
        workbench report clip_kd_search --json
        workbench report --all --out studies/results
    """
    if misnamed:
        raise ValueError("choose the format with --format md|csv|tex|png|svg|pdf, for example --format tex")
    check_formats(formats or ())
    if json and formats and not out:
        raise ValueError("with --json, --format needs --out DIR")
    if all_studies and (name_or_file or quick or name):
        raise ValueError("--all reports every study: drop STUDY, --quick and --name")
    if not (all_studies or name_or_file):
        raise ValueError("name a study (see `workbench studies`), or use --all")
    if all_studies:
        _report_all(runs, out, formats or DEFAULT_FORMATS, json)
        return
    known = find_study(name_or_file, runs)
    # A name with the suffix of rehearsals was found without it.
    quick = quick or known.source != name_or_file
    if known.study.sweeps and not name:
        found = side_by_side(known.study, runs, known.source, quick=quick)
        _report_side_by_side(found, out, formats or DEFAULT_FORMATS, json)
    else:
        _report_one(_report_on(known, quick, name, runs), out, formats or DEFAULT_FORMATS, json)


def _report_on(known: Found, quick: bool, name: str, runs: Path) -> StudyReport:
    if known.study.sweeps:  # the report of one of its sweeps
        parts = {part.name: part for part in known.study.parts()}
        if name not in parts:
            raise unknown("sweep", name, parts)
        known, name = known._replace(study=parts[name]), ""
    study = known.study.quick() if quick else known.study
    full_name = stored_name(study, name, quick=quick)
    found = report_on(study, full_name, runs, known.source)
    if not found.has_runs:  # its rehearsal is stored under another name
        rehearsed = not quick and stored_name(study, name, quick=True) in studies_with_runs(runs)
        remedy = "only its rehearsal has, add --quick" if rehearsed else f"start it with {found.made_on.command}"
        raise ValueError(f"{runs} has no run of study '{full_name}' yet: {remedy}")
    return found


def _report_one(found: StudyReport, out: Path | None, formats: list[str] | tuple[str, ...], json: bool) -> None:
    files = write_report(found, out or REPORTS / found.table.name, formats) if out or not json else []
    if json:
        print_json(document(found, [str(path) for path in files]))
        return
    _print(found)
    for path in files:
        print_line(str(path))


def _report_side_by_side(found: SideBySide, out: Path | None, formats: list[str] | tuple[str, ...], json: bool) -> None:
    files = write_side_by_side(found, out or REPORTS / found.study.name, formats) if out or not json else []
    if json:
        print_json(sweeps_document(found, [str(path) for path in files]))
        return
    print_line(visible(found.study.question))
    print_line("")
    print_rows(*sweeps_table(found))
    for line in shared_findings(found):
        print_line(f"- {visible(line)}")
    for path in files:
        print_line(str(path))


def _report_all(runs: Path, out: Path | None, formats: list[str] | tuple[str, ...], json: bool) -> None:
    several, parts = _of_several(runs)
    known = [name for name in known_studies(runs) if name not in parts and not name.endswith(QUICK)]
    started = [name for name in studies_with_runs(runs) if name in known]
    every = [report_on(find_study(study, runs).study, study, runs) for study in started]
    answered = [found for found in every if is_answered(found)]
    for found in every:
        if found not in answered:
            note = f"skipped {found.table.name}, which is not finished: {progress(found.table.cells)}"
            print_note(note)
    # Without finished runs, the index alone is written again from the answers that it has.
    if not (answered or several or (out and read_answers(out))):
        raise ValueError(f"{runs} has no finished study: `workbench report STUDY` reports an unfinished one")
    files = write_results(answered, out or REPORTS, formats, several) if out or not json else []
    if json:
        documents = [*map(document, answered), *map(sweeps_document, several)]
        print_json({"reports": documents, "files": [str(path) for path in files]})
        return
    for path in files:
        print_line(str(path))


def _of_several(runs: Path) -> tuple[list[SideBySide], set[str]]:
    """The finished studies of several sweeps, and the names of sweeps that are no study of their own."""
    finished, parts = [], set()
    for name in studies():
        try:
            study = load_study(name)
        except ValueError:  # --all reports what there is
            continue
        parts |= {sweep.name for sweep in study.sweeps} - studies().keys()
        if study.sweeps and {sweep.name for sweep in study.sweeps} <= set(studies_with_runs(runs)):
            found = side_by_side(study, runs, name)
            if len(found.reports) == len(study.sweeps) and all(map(is_answered, found.reports)):
                finished.append(found)
    return finished, parts


def _print(found: StudyReport) -> None:
    """Print the main metric's table and the findings; the files have the rest."""

    def write(text: str) -> None:
        console.print(visible(text), markup=False)

    write(found.table.question or NO_STUDY_FILE)
    write(progress(found.table.cells))
    if found.main:
        write("")
        print_rows(*grid(found.table, found.main, shown_cells(found)))
    write("")
    for line in (*findings(found), *troubles(found.table.cells)):
        write(f"- {line}")
    write("")
    for line in legend(found):
        write(line)
    write("")
