"""The reports of all studies that have been run, side by side, with an index: what ``studies/results`` is.

An answer is what was found in sentences. Beside a report a person may lay ``finding.md``, whose first paragraph then is
the answer, and all of which is in the index; no command writes it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from workbench.files import explained, write_atomically
from workbench.report.markdown import escape
from workbench.report.study import StudyReport
from workbench.report.words import findings
from workbench.report.write import OTHER_OUT, USUAL, write_report
from workbench.resources import find_resource

ANSWERS, INDEX, FINDING = "answers.json", "README.md", "finding.md"
SETTLED = ("finished", "diverged", "failed")
INTRODUCTION = """# What the studies have found

Each study was run as its report says at the end, under "Made on". The students are small and see few pairs: orders and
signs compare with the papers', sizes do not. Every figure has its interval, and every verdict its correction for being
one of several; what the seeds could not tell is said. Prose is written by hand, in the `finding.md` beside the
report; where there is none, the report's own findings stand.
"""


class Answer(BaseModel):
    """What the index and ``workbench studies`` know of a report, without reading it."""

    model_config = ConfigDict(frozen=True)

    question: str
    num_runs: int
    num_seeds: int
    steps: list[int]
    findings: list[str]
    report: str
    """Its Markdown, from the index."""
    figure: str = ""
    """The picture that says most, from the index."""


_ANSWERS = TypeAdapter(dict[str, Answer])


def is_answered(report: StudyReport) -> bool:
    """Whether all has run that the study asks for: every cell at every seed, or every trial of a search."""
    cells = report.table.cells
    if report.study.search:
        confirmed = not report.study.confirm_seeds or (report.confirmed is not None and is_settled(report.confirmed))
        return len(report.tried) >= report.study.trials and confirmed
    return is_settled(report) and any(cell.finished for cell in cells)


def is_settled(report: StudyReport) -> bool:
    """Whether every run has come to an end that stays."""
    return all(one.state in SETTLED for cell in report.table.cells for one in cell.replicates)


def write_results(reports: Sequence[StudyReport], folder: Path, formats: Sequence[str] = USUAL) -> list[Path]:
    """Write every report to a folder of its study's name, and the index of these and of those already there.

    Raises:
        ValueError: an unknown format, the folder cannot be written to, or its index is not one.
    """
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
    """The answers in a folder of reports, by study; none where there is no index.

    Raises:
        ValueError: the index cannot be read.
    """
    file = folder / ANSWERS
    try:
        return _ANSWERS.validate_json(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValidationError):
        raise ValueError(f"{file} is no index of reports: make it again with `workbench report --all`") from None


def answered() -> dict[str, str]:
    """The short answers of the results at hand: those of the working directory, or else those that ship.

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
            yield from ("", f"![what each cell of {name} gains]({answer.figure})")
        if answer.report:
            yield from ("", f"All of it: [{answer.report}]({answer.report}).")
    yield from ("", "Made by `workbench report --all --runs DIR --out studies/results`.")
