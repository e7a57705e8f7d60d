"""The answers of studies, as their index keeps them: findings, agreement with the paper, and all differences."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from workbench.resources import find_resource
from workbench.results.report import StudyReport
from workbench.results.side_by_side import SideBySide, shared_findings
from workbench.results.table import SHOWN
from workbench.results.words import findings, rival_comparisons
from workbench.statistics.rank_agreement import Agreement

ANSWERS, FINDING = "answers.json", "finding.md"
SETTLED = ("finished", "diverged", "failed")


class Difference(BaseModel):
    """A cell's difference from its baseline in one metric, in the metric's stored unit, and the paper's in points."""

    model_config = ConfigDict(frozen=True)

    cell: str
    against: str
    metric: str
    num_seeds: int
    mean: float
    low: float | None = None
    """Bounds of the 95 % interval; none with a single seed."""
    high: float | None = None
    verdict: str = ""
    seeds_needed: int | None = None
    margin: float = 0.0
    paper: float | None = None


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
    agreement: dict[str, Agreement] = {}
    """Agreement with the published order, by metric."""
    differences: list[Difference] = []
    """Every cell's differences from the baseline; for a search, those of its best from the rivals."""


ALL_ANSWERS = TypeAdapter(dict[str, Answer])


def is_answered(report: StudyReport) -> bool:
    """Whether all requested runs have ended: every cell at every seed, or every trial of a search."""
    cells = report.table.cells
    if report.study.search:
        confirmed = not report.study.confirm_seeds or (report.confirmed is not None and is_settled(report.confirmed))
        stages = len(report.stages) >= len(report.study.lengths) - 1 and all(map(is_settled, report.stages))
        return len(report.tried) >= report.study.trials and stages and confirmed
    return is_settled(report) and any(cell.finished for cell in cells)


def is_settled(report: StudyReport) -> bool:
    """Whether every run has a final state."""
    return all(one.state in SETTLED for cell in report.table.cells for one in cell.replicates)


def read_answers(folder: Path) -> dict[str, Answer]:
    """The answers in a folder of reports, by study; empty without an index.

    Raises:
        ValueError: the index cannot be read.
    """
    file = folder / ANSWERS
    try:
        return ALL_ANSWERS.validate_json(file.read_bytes())
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
    return " ".join((by_hand(folder, study) or next(iter(answer.findings), "")).split("\n\n")[0].split())


def answer_of(report: StudyReport, files: Sequence[str]) -> Answer:
    """The answer of a report; ``files`` are the names of those in its folder."""
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
        agreement=dict(report.agreement),
        differences=list(differences(report)),
    )


def answer_of_several(side: SideBySide, files: Sequence[str]) -> Answer:
    """The answer of a study of several sweeps; its sweeps have the differences."""
    name, runs = side.study.name, [one for report in side.reports for one in report.found.runs]
    figures = [file for file in files if file.startswith(("agreement.", "differences."))]
    return Answer(
        question=side.study.question,
        num_runs=len(runs),
        num_seeds=len({one.origin.seed for one in runs}),
        steps=sorted({steps for report in side.reports for steps in report.made_on.steps}),
        findings=shared_findings(side),
        report=f"{name}/report.md" if "report.md" in files else "",
        figure=f"{name}/{sorted(figures)[0]}" if figures else "",
    )


def differences(report: StudyReport) -> Iterator[Difference]:
    """The differences that the index shows: in recall and zero-shot accuracy, or else in the main metric."""
    table = report.table
    metrics = [label for label in table.metrics if label.name in SHOWN] or [label for label in (report.main,) if label]
    if report.study.search:
        for one in rival_comparisons(report, metrics):
            if one.gain:
                found = _bounds(one.gain.low, one.gain.high)
                about = {"cell": one.best, "against": one.rival, "metric": one.metric.name, "verdict": one.verdict}
                needed = one.num_seeds_needed if one.verdict == "open" else None
                size = {"num_seeds": len(one.gain.per_seed), "mean": one.gain.mean, "seeds_needed": needed}
                yield Difference(**about, **size, **found, margin=one.metric.margin(report.study.margin))
        return
    for cell in table.cells:
        for metric in metrics:
            entry = table.entry(cell, metric)
            if entry.gain and cell.name != table.baseline:
                yield Difference(
                    cell=cell.name,
                    against=table.baseline,
                    metric=metric.name,
                    num_seeds=len(entry.gain.per_seed),
                    mean=entry.gain.mean,
                    **_bounds(entry.gain.low, entry.gain.high),
                    verdict=entry.verdict,
                    seeds_needed=entry.seeds_needed,
                    margin=metric.margin(report.study.margin),
                    paper=entry.paper_gain,
                )


def _bounds(low: float, high: float) -> dict[str, float]:
    return {"low": low, "high": high} if math.isfinite(low + high) else {}


def by_hand(folder: Path, study: str) -> str:
    """What a person wrote in the ``finding.md`` of a study; empty without one."""
    try:
        return (folder / study / FINDING).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"cannot read {folder / study / FINDING}: it is a text in UTF-8, or not there") from None
