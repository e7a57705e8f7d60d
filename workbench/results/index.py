"""Many reports in one folder: their index, such as that of ``studies/results``.

It opens with the agreement with every published table and a table of all verdicts. Then comes one section a study: the
hand-written ``finding.md`` next to its report, whose first paragraph is the short answer, or else the generated
findings. No command writes a ``finding.md``.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from workbench.files import explained, write_atomically
from workbench.results.answers import (
    ANSWERS,
    Answer,
    Difference,
    answer_of,
    answer_of_several,
    by_hand,
    read_answers,
)
from workbench.results.markdown import escape, table_lines
from workbench.results.report import StudyReport
from workbench.results.side_by_side import SideBySide
from workbench.results.write import DEFAULT_FORMATS, FIGURE_FORMATS, OTHER_OUT, write_report
from workbench.results.write_sweeps import write_side_by_side
from workbench.statistics.power import MOST_SEEDS
from workbench.views.metrics import in_order, metric_label

INDEX, FIGURE = "README.md", "agreement"
MINUS = "\N{MINUS SIGN}"
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
        answers[report.table.name] = answer_of(report, [path.name for path in files])
    for side in of_several:
        files = write_side_by_side(side, folder / side.study.name, formats)
        written += files
        answers[side.study.name] = answer_of_several(side, [path.name for path in files])
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
        text = by_hand(folder, name)
        yield from [text] if text else [f"- {escape(line)}" for line in answer.findings]
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
