"""Writing reports: a study's files and figures, and the reports of all studies in one folder with an index.

The index, such as that of ``studies/results``, starts each study with the hand-written ``finding.md`` next to its
report, whose first paragraph is the short answer, or else with the generated findings. No command writes it.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from workbench.errors import unknown
from workbench.files import explained, write_atomically
from workbench.resources import find_resource
from workbench.results.export import cells_csv, latex, runs_csv
from workbench.results.markdown import escape, markdown, shown_cells
from workbench.results.report import StudyReport
from workbench.results.words import findings
from workbench.views.metrics import metric_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXT_FORMATS = ("md", "csv", "tex")
FIGURE_FORMATS = ("png", "svg", "pdf")
OTHER_OUT = "name another with --out DIR"
DEFAULT_FORMATS = ("md", "csv", "tex", "png")


def check_formats(formats: Sequence[str]) -> None:
    """Check the names of formats.

    Raises:
        ValueError: an unknown format.
    """
    for name in formats:
        if name not in (*TEXT_FORMATS, *FIGURE_FORMATS):
            raise unknown("format", name, (*TEXT_FORMATS, *FIGURE_FORMATS))


def write_report(report: StudyReport, folder: Path, formats: Sequence[str] = DEFAULT_FORMATS) -> list[Path]:
    """Write ``report.md``, ``cells.csv``, ``runs.csv``, ``table.tex`` and figures; the same runs give the same bytes.

    Files of an earlier report are replaced atomically, one by one.

    Raises:
        ValueError: an unknown format, or the folder cannot be created or written to.
    """
    check_formats(formats)
    with explained(folder, OTHER_OUT):
        folder.mkdir(parents=True, exist_ok=True)
        return _write(report, folder, formats)


def _write(report: StudyReport, folder: Path, formats: Sequence[str]) -> list[Path]:
    written = list(_write_figures(report, folder, [name for name in FIGURE_FORMATS if name in formats]))
    # One file per figure, in a format that Markdown can show.
    shown = {path.stem: path.name for path in reversed(written) if path.suffix != ".pdf"}
    in_order = [shown[stem] for stem in dict.fromkeys(path.stem for path in written) if stem in shown]
    texts: dict[str, dict[str, Callable[[], str]]] = {
        "md": {"report.md": lambda: markdown(report, in_order)},
        "csv": {"cells.csv": lambda: cells_csv(report.table), "runs.csv": lambda: runs_csv(report.table)},
        "tex": {"table.tex": lambda: latex(report.table, shown_cells(report))},
    }
    # Figures come first, because the Markdown links them.
    for name in TEXT_FORMATS:
        for file, text in texts[name].items() if name in formats else ():
            write_atomically(folder / file, text())
            written.append(folder / file)
    return written


def _write_figures(report: StudyReport, folder: Path, kinds: Sequence[str]) -> Iterator[Path]:
    from workbench.figures.style import save_figure

    if kinds:
        for name, figure in figures_of(report):
            yield from (save_figure(figure, folder / f"{name}.{kind}", small=True) for kind in kinds)


def figures_of(report: StudyReport) -> "Iterator[tuple[str, Figure]]":
    """The figures with content for this study, by name."""
    from workbench.figures.search import effects_figure, history_figure, importance_figure, pareto_figure
    from workbench.figures.study import differences_figure, study_figure
    from workbench.figures.training import learning_figure

    table, main = report.table, report.main
    if main is None or not any(cell.finished for cell in table.cells):
        return
    if report.study.search:
        objective = metric_label(report.study.objectives[0].metric)
        if any(one.value is not None for one in report.tried):
            yield "history", history_figure(report.tried, objective)
        if report.importance.shares:
            yield "importance", importance_figure(report.importance.shares, report.importance.note)
    else:
        yield "cells", study_figure(table)
        if any(entry.gain for of in table.entries.values() for entry in of.values()):
            yield "differences", differences_figure(table)
    if effects := report.effects.get(main.name):
        yield "effects", effects_figure(effects, main)
    if report.front:
        yield "pareto", pareto_figure(report.front, [metric_label(one.metric) for one in report.study.objectives])
    if report.learning:
        yield "learning", learning_figure(report.learning)


ANSWERS, INDEX, FINDING = "answers.json", "README.md", "finding.md"
SETTLED = ("finished", "diverged", "failed")
INTRODUCTION = """# Results of the studies

The end of each report, "Made on", gives the machine, settings and commands. The students are small and see few pairs:
compare orders and signs with the papers', not sizes. Every figure has a 95 % interval, verdicts are corrected for
multiple comparisons, and differences that the seeds cannot resolve are reported as such. Text is written by hand in
the `finding.md` next to the report; without one, the report's generated findings are shown.
"""


class Answer(BaseModel):
    """The summary of a report that the index and ``workbench studies`` show."""

    model_config = ConfigDict(frozen=True)

    question: str
    num_runs: int
    num_seeds: int
    steps: list[int]
    findings: list[str]
    report: str
    """Path of its Markdown file, relative to the index."""
    figure: str = ""
    """Path of its main figure, relative to the index."""


_ANSWERS = TypeAdapter(dict[str, Answer])


def is_answered(report: StudyReport) -> bool:
    """Whether all requested runs have ended: every cell at every seed, or every trial of a search."""
    cells = report.table.cells
    if report.study.search:
        confirmed = not report.study.confirm_seeds or (report.confirmed is not None and is_settled(report.confirmed))
        return len(report.tried) >= report.study.trials and confirmed
    return is_settled(report) and any(cell.finished for cell in cells)


def is_settled(report: StudyReport) -> bool:
    """Whether every run has a final state."""
    return all(one.state in SETTLED for cell in report.table.cells for one in cell.replicates)


def write_results(reports: Sequence[StudyReport], folder: Path, formats: Sequence[str] = DEFAULT_FORMATS) -> list[Path]:
    """Write every report to a folder named for its study, and the index of these and existing ones.

    Raises:
        ValueError: an unknown format, the folder cannot be written to, or its index is invalid.
    """
    # Studies that are not reported now keep their entry in the index.
    answers = read_answers(folder)
    written = []
    for report in reports:
        files = write_report(report, folder / report.table.name, formats)
        written += files
        answers[report.table.name] = _answer(report, [path.name for path in files])
    answers = dict(sorted(answers.items()))
    documents = {name: answer.model_dump() for name, answer in answers.items()}
    index = {
        ANSWERS: json.dumps(documents, indent=1, ensure_ascii=False) + "\n",
        INDEX: "\n".join(_index(folder, answers)).rstrip() + "\n",
    }
    with explained(folder, OTHER_OUT):
        for name, text in index.items():
            write_atomically(folder / name, text)
    return written + [folder / name for name in index]


def read_answers(folder: Path) -> dict[str, Answer]:
    """The answers in a folder of reports, by study; empty without an index.

    Raises:
        ValueError: the index cannot be read.
    """
    file = folder / ANSWERS
    try:
        return _ANSWERS.validate_json(file.read_bytes())
    # A folder without an index is a new one.
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValidationError):
        raise ValueError(f"{file} is not an index of reports: write it again with `workbench report --all`") from None


def answered() -> dict[str, str]:
    """The short answers by study, from the working directory's results, or else from the shipped ones.

    Raises:
        ValueError: their index cannot be read.
    """
    index = find_resource(f"studies/results/{ANSWERS}")
    found = read_answers(index.parent) if index else {}
    return {name: short_answer(index.parent, name, answer) for name, answer in found.items()} if index else {}


def short_answer(folder: Path, study: str, answer: Answer) -> str:
    """In a sentence or two: the first paragraph that a person wrote, or else the first finding."""
    return " ".join((_finding(folder, study) or next(iter(answer.findings), "")).split("\n\n")[0].split())


def _answer(report: StudyReport, files: Sequence[str]) -> Answer:
    name = report.table.name
    replicates = [one for cell in report.table.cells for one in cell.replicates]
    # In reverse order of names, history precedes differences, and these precede cells.
    figures = [file for file in files if file.startswith(("differences.", "history.", "cells.")) and "csv" not in file]
    return Answer(
        question=report.table.question,
        num_runs=sum(bool(one.run) for one in replicates),
        num_seeds=len({one.seed for one in replicates if one.run}),
        steps=list(report.made_on.steps),
        findings=findings(report),
        report=f"{name}/report.md" if "report.md" in files else "",
        figure=f"{name}/{sorted(figures, reverse=True)[0]}" if figures else "",
    )


def _finding(folder: Path, study: str) -> str:
    try:
        return (folder / study / FINDING).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"cannot read {folder / study / FINDING}: it is a text in UTF-8, or not there") from None


def _index(folder: Path, answers: Mapping[str, Answer]) -> Iterator[str]:
    yield INTRODUCTION
    yield from ("| study | question | runs | steps |", "| --- | --- | ---: | ---: |")
    for name, answer in answers.items():
        steps = ", ".join(f"{number:,}" for number in answer.steps)
        yield f"| [{name}](#{name}) | {escape(answer.question)} | {answer.num_runs} | {steps} |"
    for name, answer in answers.items():
        yield from ("", f"## {name}", "", escape(answer.question), "")
        by_hand = _finding(folder, name)
        yield from [by_hand] if by_hand else [f"- {escape(line)}" for line in answer.findings]
        if answer.figure:
            yield from ("", f"![gain of each cell of {name}]({answer.figure})")
        if answer.report:
            yield from ("", f"Full report: [{answer.report}]({answer.report}).")
    yield from ("", "Made by `workbench report --all --runs DIR --out studies/results`.")
