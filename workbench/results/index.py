"""Many reports in one folder: their index, such as that of ``studies/results``.

It opens with the agreement with every published table and a table of all verdicts. Then comes one section a study: the
hand-written ``finding.md`` next to its report, whose first paragraph is the short answer, or else the generated
findings. No command writes a ``finding.md``.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from workbench.files import explained, write_atomically
from workbench.resources import find_resource
from workbench.results.markdown import escape, table_lines
from workbench.results.report import StudyReport
from workbench.results.side_by_side import SideBySide, shared_findings
from workbench.results.table import SHOWN
from workbench.results.words import findings, rival_comparisons
from workbench.results.write import DEFAULT_FORMATS, FIGURE_FORMATS, OTHER_OUT, write_report
from workbench.results.write_sweeps import write_side_by_side
from workbench.statistics.power import MOST_SEEDS
from workbench.statistics.rank_agreement import Agreement
from workbench.views.metrics import in_order, metric_label

ANSWERS, INDEX, FINDING, FIGURE = "answers.json", "README.md", "finding.md", "agreement"
SETTLED = ("finished", "diverged", "failed")
COMMAND = "workbench report --all --out studies/results"
INTRODUCTION = f"""# Results of the studies

Kendall's τ between our order of the cells and the published one, for every table of the papers. Intervals cover our
seeds; the papers publish none. `{COMMAND}` draws this figure and writes this page again.
"""
VERDICTS = """## Verdicts

Each cell's difference from its baseline in percentage points, paired by seed, with its 95 % interval. Verdicts, unlike
intervals, are corrected for the number of cells of a study (Holm). *Equivalent*: the difference is smaller than the
study's margin (two one-sided tests). *Open*: neither, with the number of seeds that would decide if the true difference
is the measured one. The last sign is that of the paper's difference, if it is published. Students here are small and
see few pairs: compare signs and orders with the papers', not sizes.
"""


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


_ANSWERS = TypeAdapter(dict[str, Answer])


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


def write_results(
    reports: Sequence[StudyReport],
    folder: Path,
    formats: Sequence[str] = DEFAULT_FORMATS,
    of_several: Sequence[SideBySide] = (),
) -> list[Path]:
    """Write every report to a folder named for its study, and the index of these and existing ones.

    Args:
        of_several: the studies that are made of several sweeps.

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
    for side in of_several:
        files = write_side_by_side(side, folder / side.study.name, formats)
        written += files
        answers[side.study.name] = _answer_of_several(side, [path.name for path in files])
    answers = dict(sorted(answers.items()))
    return written + _write_index(folder, answers, [kind for kind in FIGURE_FORMATS if kind in formats])


def _write_index(folder: Path, answers: Mapping[str, Answer], kinds: Sequence[str]) -> list[Path]:
    documents = {name: answer.model_dump() for name, answer in answers.items()}
    with explained(folder, OTHER_OUT):
        figures = _write_figure(folder, answers, kinds)
        shown = next((path.name for path in figures if path.suffix != ".pdf"), "")
        index = {
            ANSWERS: json.dumps(documents, indent=1, ensure_ascii=False) + "\n",
            INDEX: "\n".join(_index(folder, answers, shown)).rstrip() + "\n",
        }
        for name, text in index.items():
            write_atomically(folder / name, text)
    return figures + [folder / name for name in index]


def _write_figure(folder: Path, answers: Mapping[str, Answer], kinds: Sequence[str]) -> list[Path]:
    """The figure of the agreement with all published tables; none if there is no table to agree with."""
    from workbench.figures.agreement import AgreementRow, agreement_figure
    from workbench.figures.style import save_figure

    rows = [
        AgreementRow(
            f"{name}, {_steps(answer)} steps",
            metric_label(metric).label,
            agreed := answer.agreement[metric],
            metric_label(agreed.published).label if agreed.published else "",
        )
        for name, answer in answers.items()
        for metric in in_order(set(answer.agreement))
    ]
    if not (rows and kinds):
        return []
    figure = agreement_figure(rows)
    return [save_figure(figure, folder / f"{FIGURE}.{kind}", small=True) for kind in kinds]


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
        agreement=dict(report.agreement),
        differences=list(differences(report)),
    )


def _answer_of_several(side: SideBySide, files: Sequence[str]) -> Answer:
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


def _finding(folder: Path, study: str) -> str:
    try:
        return (folder / study / FINDING).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"cannot read {folder / study / FINDING}: it is a text in UTF-8, or not there") from None


def _index(folder: Path, answers: Mapping[str, Answer], figure: str) -> Iterator[str]:
    yield INTRODUCTION
    if figure:
        yield from (f"![Kendall's τ with its interval, by study and metric]({figure})", "")
    if any(answer.differences for answer in answers.values()):
        yield from (VERDICTS, *_verdicts(answers), "")
    yield from ("## Studies", "", "| study | question | runs | steps |", "| --- | --- | ---: | ---: |")
    for name, answer in answers.items():
        yield f"| [{name}](#{name}) | {escape(answer.question)} | {answer.num_runs} | {_steps(answer)} |"
    for name, answer in answers.items():
        yield from ("", f"## {name}", "", escape(answer.question), "")
        by_hand = _finding(folder, name)
        yield from [by_hand] if by_hand else [f"- {escape(line)}" for line in answer.findings]
        if answer.figure:
            yield from ("", f"![gain of each cell of {name}]({answer.figure})")
        if answer.report:
            yield from ("", f"Full report, with the command that repeats it: [{answer.report}]({answer.report}).")
    yield from ("", "Made by `workbench report --all --runs DIR --out studies/results`.")


def _steps(answer: Answer) -> str:
    return ", ".join(f"{number:,}" for number in answer.steps)


def _verdicts(answers: Mapping[str, Answer]) -> Iterator[str]:
    """One line for each cell of each study, one column for each metric."""
    metrics = in_order({one.metric for answer in answers.values() for one in answer.differences})
    rows = []
    for name, answer in answers.items():
        by_cell: dict[tuple[str, str], dict[str, Difference]] = {}
        for one in answer.differences:
            by_cell.setdefault((one.cell, one.against), {})[one.metric] = one
        for number, ((cell, against), found) in enumerate(by_cell.items()):
            seeds = max(one.num_seeds for one in found.values())
            about = [name if number == 0 else "", f"{cell} against {against}", _steps(answer), str(seeds)]
            rows.append([*about, *(verdict_text(found[metric]) if metric in found else "" for metric in metrics)])
    columns = ["study", "cell", "steps", "seeds", *(metric_label(metric).label for metric in metrics)]
    yield from table_lines(columns, rows, num_words=2)


def verdict_text(one: Difference) -> str:
    """A difference with its interval, its verdict with what it needs, and the sign of the paper's.

    Such as "better: +30.6 (+22.5 to +38.8); paper +", or "open, about 52 seeds: +2.2 (−5.9 to +10.4)".
    """
    metric = metric_label(one.metric)
    words = one.verdict
    if one.verdict == "open":
        words += f", about {one.seeds_needed:,} seeds" if one.seeds_needed else f", over {MOST_SEEDS:,} seeds"
    if one.verdict == "equivalent":
        words += f" within {metric.number(one.margin)}"
    size = metric.number(one.mean, signed=True)
    if one.low is not None and one.high is not None:
        size += f" ({metric.interval(one.low, one.high, signed=True)})"
    sign = "" if one.paper is None else f"; paper {'+' if one.paper > 0 else MINUS if one.paper < 0 else '0'}"
    return f"{words}: {size}{sign}"


MINUS = "\N{MINUS SIGN}"
