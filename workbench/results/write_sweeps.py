"""The report of a study of several sweeps: Markdown, figures and JSON."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import visible
from workbench.files import explained, write_atomically
from workbench.formatting import duration
from workbench.results.export import document
from workbench.results.markdown import escape, table_lines
from workbench.results.report import StudyReport
from workbench.results.side_by_side import SideBySide, cpu_s, same_verdicts, shared_findings, sweep_command, to_last
from workbench.results.words import progress
from workbench.results.write import DEFAULT_FORMATS, FIGURE_FORMATS, OTHER_OUT, check_formats
from workbench.statistics.rank_agreement import Agreement, tau_text
from workbench.views.metrics import MetricLabel
from workbench.views.study import Entry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_COLORS = 4  # sweeps that a figure of differences can tell apart


def figures_of(side: SideBySide) -> "Iterator[tuple[str, Figure]]":
    """Agreement against cost, if the sweeps differ in length; differences side by side, if there are few sweeps."""
    from workbench.figures.side_by_side import BudgetPoint, budget_figure, side_by_side_figure

    lengths = {report.made_on.steps for report in side.reports}
    seconds = cpu_s(side)
    if len(lengths) > 1 and all(seconds.values()):
        labels, final = {label.name: label.label for label in side.metrics}, to_last(side)

        def named(of: Mapping[str, Agreement]) -> dict[str, Agreement]:
            return {labels[metric]: agreed for metric, agreed in of.items() if metric in labels}

        yield (
            "agreement",
            budget_figure(
                [
                    BudgetPoint(
                        _steps(one), seconds[one.table.name], named(one.agreement), named(final.get(one.table.name, {}))
                    )
                    for one in side.reports
                ]
            ),
        )
    gains = {
        name: {
            metric.name: {
                cell: entry.gain
                for cell, of in report.table.entries.items()
                if (entry := of.get(metric.name, Entry())).gain
            }
            for metric in side.metrics
        }
        for name, report in side.by_name.items()
    }
    if len(gains) <= MOST_COLORS and any(found for of in gains.values() for found in of.values()):
        yield "differences", side_by_side_figure(side.metrics, gains, side.study.baseline)


def _steps(report: StudyReport) -> str:
    return ", ".join(f"{steps:,}" for steps in report.made_on.steps)


def markdown(side: SideBySide, figures: Sequence[str] = ()) -> str:
    """The report; ``figures`` are file names in its folder."""
    return "\n".join(map(visible, _lines(side, figures))).rstrip() + "\n"


def _lines(side: SideBySide, figures: Sequence[str]) -> Iterator[str]:
    yield from (f"# {escape(side.study.name)}", "", escape(side.study.question), "")
    yield from ("## Findings", "", *(f"- {escape(line)}" for line in shared_findings(side)), "")
    for figure in figures:
        yield from (f"![{figure.rpartition('.')[0]}]({figure})", "")
    yield from ("## Sweeps", "", "CPU time: one seed of all cells, at the fastest pace of these sweeps.", "")
    yield from (*table_lines(*sweeps_table(side), num_words=2), "")
    for metric in side.metrics:
        same = same_verdicts(side, metric.name)
        if same:
            yield from (f"## {escape(metric.title)}", "", f"Differences from {escape(side.study.baseline)}.", "")
            yield from (*table_lines(["cell", *side.by_name, "same verdict"], _verdicts(side, metric, same), 1), "")
    yield from ("## Made on", "")
    for name, report in side.by_name.items():
        yield f"- {escape(name)}: {escape('; '.join(report.made_on.machines))}; {progress(report.table.cells)}"
    yield from ("", "```", sweep_command(side.study, side.source), f"workbench report {side.source}", "```")


def sweeps_table(side: SideBySide) -> tuple[list[str], list[list[str]]]:
    """Columns, and a line for each sweep: its data, length, cost and agreement."""
    final, seconds_of = to_last(side), cpu_s(side)
    with_paper = [metric for metric in side.metrics if any(metric.name in one.agreement for one in side.reports)]
    columns = [
        "sweep",
        "pairs",
        "steps",
        "CPU time of a seed",
        *(f"τ with the paper, {one.label}" for one in with_paper),
    ]
    columns += [f"τ with the last, {metric.label}" for metric in side.metrics]
    rows = []
    for name, report in side.by_name.items():
        made, seconds = report.made_on, seconds_of[name]
        about = [name, "; ".join(made.pairs), _steps(report), duration(seconds) if seconds else ""]
        orders = [report.agreement.get(metric.name) for metric in with_paper]
        orders += [final.get(name, {}).get(metric.name) for metric in side.metrics]
        rows.append([*about, *(tau_text(agreed) if agreed else "" for agreed in orders)])
    return columns, rows


def _verdicts(side: SideBySide, metric: MetricLabel, same: Mapping[str, bool | None]) -> Iterator[list[str]]:
    words = {True: "yes", False: "no", None: "open"}
    for cell, is_same in same.items():
        entries = [report.table.entries[cell][metric.name] for report in side.reports]
        yield [cell, *(_difference(metric, entry) for entry in entries), words[is_same]]


def _difference(metric: MetricLabel, entry: Entry) -> str:
    if entry.gain is None:
        return ""
    bounds = metric.interval(entry.gain.low, entry.gain.high, signed=True)
    return f"{entry.verdict_text}: {metric.number(entry.gain.mean, signed=True)}" + (f" ({bounds})" if bounds else "")


def write_side_by_side(side: SideBySide, folder: Path, formats: Sequence[str] = DEFAULT_FORMATS) -> list[Path]:
    """Write ``report.md`` and its figures; the sweeps have reports of their own for tables in CSV and LaTeX.

    Raises:
        ValueError: an unknown format, or the folder cannot be created or written to.
    """
    from workbench.figures.style import save_figure

    check_formats(formats)
    with explained(folder, OTHER_OUT):
        folder.mkdir(parents=True, exist_ok=True)
        kinds = [kind for kind in FIGURE_FORMATS if kind in formats]
        drawn = list(figures_of(side)) if kinds else []
        written = [
            save_figure(figure, folder / f"{name}.{kind}", small=True) for name, figure in drawn for kind in kinds
        ]
        if "md" in formats:
            shown = [f"{name}.{kind}" for name, _ in drawn for kind in kinds[:1] if kind != "pdf"]
            write_atomically(folder / "report.md", markdown(side, shown))
            written.append(folder / "report.md")
    return written


def sweeps_document(side: SideBySide, files: Sequence[str] = ()) -> dict[str, Any]:
    """The document of ``report --json``."""
    seconds = cpu_s(side)
    return {
        "study": side.study.name,
        "question": side.study.question,
        "sweeps": [document(report) | {"cpu_s": seconds[report.table.name]} for report in side.reports],
        "same_verdicts": {metric.name: same_verdicts(side, metric.name) for metric in side.metrics},
        "findings": shared_findings(side),
        "files": list(files),
    }
