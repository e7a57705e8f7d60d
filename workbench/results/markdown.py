"""A study's report in Markdown."""

import re
from collections.abc import Iterable, Iterator, Sequence

from workbench.config.cells import as_text, cell_name
from workbench.errors import visible
from workbench.results.export import grid, interval
from workbench.results.facts import NO_TEACHER
from workbench.results.report import StudyReport
from workbench.results.table import best_first
from workbench.results.words import findings, progress, troubles
from workbench.statistics.rank_agreement import rank_agreement
from workbench.views.metrics import MetricLabel
from workbench.views.study import StudyCell

SPECIAL = re.compile(r"[\\`|<]|!?\[(?=[^\[\]]*\]\()")
ESCAPED = re.compile(r"\\([\\`|<!\[])")
MOST_SHOWN = 20  # cells of a search in Markdown; the CSV files have all


def markdown(report: StudyReport, figures: Sequence[str] = ()) -> str:
    """The full report. ``figures`` are file names in the report's folder."""
    return "\n".join(map(visible, _lines(report, figures))).rstrip() + "\n"


def _lines(report: StudyReport, figures: Sequence[str]) -> Iterator[str]:
    table = report.table
    yield from (f"# {escape(table.name)}", "", escape(table.question), "", progress(table.cells) + ".", "")
    if lines := findings(report):
        yield from ("## Findings", "", *(f"- {escape(sentence)}" for sentence in lines), "")
    if report.best and report.study.search:
        (best,) = (cell for cell in table.cells if cell.name == report.best)
        yield from (f"Best by validation: **{escape(best.name)}** ({escape(cell_name(best.values))}).", "")
    for figure in figures:
        yield from (f"![{figure.rpartition('.')[0].replace('_', ' ')}]({figure})", "")
    yield from ("## Cells", "")
    for metric in table.metrics:
        columns, rows = grid(table, metric, shown_cells(report))
        yield from (f"### {escape(metric.title)}", "", *table_lines(columns, rows), "")
    yield from (*(f"- {escape(line)}" for line in legend(report)), "")
    yield from _confirmed(report)
    yield from _longer(report)
    yield from _beyond(report)
    if wrong := troubles(table.cells):
        yield from ("## Runs that have not finished", "", *(f"- {escape(line)}" for line in wrong), "")
    yield from _made_on(report)


def shown_cells(report: StudyReport) -> list[StudyCell]:
    """All cells; for a search, the best ``MOST_SHOWN`` by validation."""
    return best_first(report.study, report.table.cells)[: MOST_SHOWN if report.study.search else None]


def legend(report: StudyReport) -> Iterator[str]:
    """Notes on how to read the tables."""
    table = report.table
    yield (
        f"Ours: {table.split} pairs, means and standard deviations (sd) over the finished seeds. Intervals of means "
        "cover seeds and, if the metric has a standard error, test pairs (Student's t)."
    )
    if table.baseline:
        first = ", the search's first trial" if report.study.search else ""
        yield (
            f"Differences: from {table.baseline}{first}, paired by seed on the same pairs; intervals cover seeds, "
            "uncorrected, with the variance pooled over all cells; verdicts are Holm-corrected over the cells at 0.05."
            + _margin_note(report.study.margin)
        )
    if report.study.is_sequential:
        yield (
            "Seeds were added until each comparison was settled; intervals and verdicts are sequential (Lai's t-test), "
            "valid however often one looks."
        )
    if table.paper_source:
        yield f"Paper: {table.paper_source}. Other models and data: compare orders and signs, not sizes."
    if report.study.search and len(table.cells) > MOST_SHOWN:
        yield f"The {MOST_SHOWN} best by validation of {len(table.cells)}; all are in cells.csv and runs.csv."


def _margin_note(margin: float) -> str:
    return f" Equivalent: the difference is smaller than {margin:g} points (two one-sided tests)." if margin else ""


def table_lines(columns: Sequence[str], rows: Iterable[Sequence[str]], num_words: int = 1) -> Iterator[str]:
    """A table whose first ``num_words`` columns are words; numbers are aligned to the right."""
    yield _line(columns)
    yield _line(["---"] * num_words + ["---:"] * (len(columns) - num_words))
    yield from map(_line, rows)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(escape, cells)) + " |"


def escape(text: str) -> str:
    """Text escaped for Markdown, including table cells: no bars, code, links, images or tags."""
    return SPECIAL.sub(r"\\\g<0>", visible(text))


def unescape(text: str) -> str:
    """The inverse of :func:`escape`, except for non-printable characters."""
    return ESCAPED.sub(r"\1", text)


def _confirmed(report: StudyReport) -> Iterator[str]:
    """A search's best and its rivals on held-out seeds."""
    if report.confirmed and report.main:
        yield from (
            "## Held-out seeds",
            "",
            "The best of the search against its rivals, on seeds that were not used in the search.",
            "",
        )
        table = report.confirmed.table
        for metric in table.metrics:
            yield from (f"### {metric.title}", "", *table_lines(*grid(table, metric, table.cells)), "")
        yield from (f"Differences: from {escape(table.baseline)}.", "")


def _longer(report: StudyReport) -> Iterator[str]:
    """The best configurations of a search at each length, and whether the order at one predicts that at the next."""
    metric = report.main
    if not report.stages or metric is None:
        return
    lengths = [report, *report.stages]
    means = [{cell.name: cell.validation_mean(metric.name) for cell in one.table.cells} for one in lengths]
    columns = ["configuration", "settings", *(f"{steps:,} steps" for steps in report.study.lengths[: len(lengths)])]
    # Those that trained longest first, the best of each length on top.
    ranked = [cell for one in reversed(lengths) for cell in _by_mean(one, metric)]
    values = {cell.name: cell.values for cell in report.table.cells}
    rows = [
        [name, cell_name(values.get(name, {})), *(metric.number(of[name]) if name in of else "" for of in means)]
        for name in dict.fromkeys(ranked)
        if name in means[1]
    ]
    yield from ("## Longer training", "", f"Validation {metric.title}, mean over seeds.", "")
    yield from (*table_lines(columns, rows, num_words=2), "")
    for before, after, steps in zip(means, means[1:], report.study.lengths[1:], strict=False):
        both = [name for name, mean in after.items() if mean is not None and before.get(name) is not None]
        if agreed := rank_agreement([before[name] or 0.0 for name in both], [after[name] or 0.0 for name in both]):
            about = f"Kendall τ {agreed.tau:+.2f}, {len(both)} configurations"
            yield f"- The order after {steps:,} steps and before: {about}."
    yield ""


def _by_mean(report: StudyReport, metric: MetricLabel) -> list[str]:
    """Names of the cells with a validation mean, the best first."""
    sign = 1 if report.study.objectives[0].direction == "maximize" else -1
    means = {cell.name: cell.validation_mean(metric.name) for cell in report.table.cells}
    known = {name: sign * mean for name, mean in means.items() if mean is not None}
    return sorted(known, key=lambda name: -known[name])


def _beyond(report: StudyReport) -> Iterator[str]:
    """Main effects, importance and Pareto front, if the study has them."""
    metric = report.main
    effects = report.effects.get(metric.name, []) if metric else []
    if metric and effects:
        yield from (
            f"## Main effects: {metric.title}",
            "",
            "Effect of each value, averaged over the other settings.",
            "",
        )
        rows = [
            (
                one.setting,
                as_text(one.level),
                metric.number(one.gain.mean, signed=True),
                interval(metric, one.gain, signed=True),
            )
            for one in effects
        ]
        yield from (*table_lines(("setting", "value", "effect", "95 %"), rows), "")
    if metric and report.importance.shares:
        yield from ("## Importance of the settings", "", f"{report.importance.note}.", "")
        shares = [(setting, f"{share:.0%}") for setting, share in report.importance.shares.items()]
        yield from (*table_lines(("setting", "share"), shares), "")
    if report.interactions:
        yield from (
            "## Interactions of the settings",
            "",
            "Share of the variance beyond each setting's own effect that the product of two settings explains; "
            "p-values of F-tests, Holm-corrected over the pairs. Sign: both higher together is better (+) or worse.",
            "",
        )
        sign = {1: "+", -1: "\N{MINUS SIGN}", 0: ""}
        better = 1 if report.study.objectives[0].direction == "maximize" else -1
        pairs = [
            (first, second, f"{one.share:.0%}", sign[better * one.together], f"{one.p_value:.2g}")
            for first, second, one in report.interactions
        ]
        yield from (*table_lines(("setting", "and", "share", "sign", "p"), pairs, num_words=2), "")
    if report.front:
        best = ", ".join(point.cell for point in report.front if point.on_front)
        names = ", ".join(objective.metric for objective in report.study.objectives)
        yield from (f"No other cell is better in all of {names}, by validation: {escape(best)}.", "")


def _made_on(report: StudyReport) -> Iterator[str]:
    made = report.made_on
    scale = "" if made.teacher_scale is None else f", scale 1/τ {made.teacher_scale:.1f}"
    yield from ("## Made on", "")
    rows = {
        "machine": "; ".join(made.machines),
        "steps": ", ".join(f"{steps:,}" for steps in made.steps),
        "batch": ", ".join(map(str, made.batch_size)),
        "pairs": ", ".join(made.pairs),
        "student": ", ".join(made.student),
        "teacher": ", ".join(made.teacher) + scale,
        "settings that cells share": _sha256(made.config_sha256),
        "training pairs": _sha256(made.data_sha256),
        "teacher's weights": _sha256(made.teacher_sha256) if made.teacher != (NO_TEACHER,) else "",
        "code": "; ".join(map(_sha256, made.code_sha256)) or _sha256(""),
    }
    yield from (f"- {name}: {escape(value)}" for name, value in rows.items() if value)
    yield from ("", "```", made.command, made.report, "```")


def _sha256(digest: str) -> str:
    return f"sha256 {digest[:16]}" if digest else "not recorded"
