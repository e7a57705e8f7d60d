"""A study's report in Markdown."""

import re
from collections.abc import Iterator, Sequence

from workbench.config.cells import as_text, cell_name
from workbench.report.facts import NO_TEACHER
from workbench.report.study import StudyReport
from workbench.report.tables import Grid, grid, interval
from workbench.report.words import findings, progress, troubles
from workbench.statistics.intervals import Gain
from workbench.terminal import visible
from workbench.views.metrics import MetricLabel
from workbench.views.study import StudyCell

SPECIAL = re.compile(r"[\\`|<]|!?\[(?=[^\[\]]*\]\()")
ESCAPED = re.compile(r"\\([\\`|<!\[])")
MOST_SHOWN = 20  # cells of a search; all are in the CSV files


def markdown(report: StudyReport, figures: Sequence[str] = ()) -> str:
    """The whole report. ``figures`` are files beside it, each named for what it shows."""
    return "\n".join(map(visible, _lines(report, figures))).rstrip() + "\n"


def _lines(report: StudyReport, figures: Sequence[str]) -> Iterator[str]:
    table = report.table
    yield from (f"# {escape(table.name)}", "", escape(table.question), "", progress(table.cells) + ".", "")
    if said := findings(report):
        yield from ("## What it says", "", *(f"- {escape(sentence)}" for sentence in said), "")
    if report.best and report.study.search:
        (best,) = (cell for cell in table.cells if cell.name == report.best)
        yield from (f"Best by validation: **{escape(best.name)}** ({escape(cell_name(best.values))}).", "")
    for figure in figures:
        yield from (f"![{figure.rpartition('.')[0].replace('_', ' ')}]({figure})", "")
    yield from ("## Cells", "")
    for metric in table.metrics:
        found = grid(table, metric, shown_cells(report))
        yield from (f"### {escape(metric.title)}", "", *_table(found), "")
    yield from (*(f"- {escape(line)}" for line in legend(report)), "")
    yield from _confirmed(report)
    yield from _beyond(report)
    if wrong := troubles(table.cells):
        yield from ("## Runs that have not finished", "", *(f"- {escape(line)}" for line in wrong), "")
    yield from _made_on(report)


def shown_cells(report: StudyReport) -> list[StudyCell]:
    """All cells; of a search the best by validation first, and no more than fit a page."""
    return best_first(report)[:MOST_SHOWN] if report.study.search else best_first(report)


def best_first(report: StudyReport) -> list[StudyCell]:
    """All cells in their order; of a search the best by validation first."""
    if not report.study.search:
        return list(report.table.cells)
    objective = report.study.objectives[0]
    sign = -1 if objective.direction == "maximize" else 1

    def worth(cell: StudyCell) -> tuple[int, float]:
        values = list(cell.by_seed(objective.metric, validation=True).values())
        return -len(values), sign * sum(values) / len(values) if values else 0.0

    return sorted(report.table.cells, key=worth)


def legend(report: StudyReport) -> Iterator[str]:
    """How the tables are to be read."""
    table = report.table
    yield (
        f"Ours: {table.split} pairs, means over the seeds that finished and their standard deviation (sd) from seed to "
        "seed. The means' intervals cover seeds and, where the metric has a standard error, test pairs (Student's t)."
    )
    if table.baseline:
        begun = ", with which the search began" if report.study.search else ""
        yield (
            f"Differences: from {table.baseline}{begun}, paired by seed on the same pairs; their intervals cover "
            "seeds, one by one, with the spread pooled over all cells; verdicts are Holm-corrected over the cells at "
            "0.05."
        )
    if table.paper_source:
        yield f"Paper: {table.paper_source}. Other models on other data: orders and signs compare, sizes do not."
    if report.study.search and len(table.cells) > MOST_SHOWN:
        yield f"The {MOST_SHOWN} best by validation of {len(table.cells)}; all are in cells.csv and runs.csv."


def _table(found: Grid) -> Iterator[str]:
    yield _line(found.columns)
    yield _line(["---" if place == 0 else "---:" for place in range(len(found.columns))])
    yield from map(_line, found.rows)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(escape, cells)) + " |"


def escape(text: str) -> str:
    """Text as Markdown shows it, in a cell of a table or elsewhere: no bar, code, link, picture or tag begins in it."""
    return SPECIAL.sub(r"\\\g<0>", visible(text))


def unescape(text: str) -> str:
    """What :func:`escape` was given, but for what is not printable."""
    return ESCAPED.sub(r"\1", text)


def _confirmed(report: StudyReport) -> Iterator[str]:
    """A search's best and its rivals at fresh seeds."""
    if report.confirmed and report.main:
        yield from (
            "## With fresh seeds",
            "",
            "The best of the search beside its rivals, at seeds that chose nothing.",
            "",
        )
        table = report.confirmed.table
        for metric in table.metrics:
            yield from (f"### {metric.title}", "", *_table(grid(table, metric, table.cells)), "")
        yield from (f"Differences: from {escape(table.baseline)}.", "")


def _beyond(report: StudyReport) -> Iterator[str]:
    """Effects, importance and the front, where the study has them."""
    metric = report.main
    effects = report.effects.get(metric.name, []) if metric else []
    if metric and effects:
        yield from (
            f"## Main effects: {metric.title}",
            "",
            "What each value adds, the other settings averaged over.",
            "",
        )
        rows = [
            (one.setting, as_text(one.level), metric.number(one.gain.mean, signed=True), _bounds(metric, one.gain))
            for one in effects
        ]
        yield from (*_table(Grid(metric, ("setting", "value", "effect", "95 %"), tuple(rows))), "")
    if metric and report.importance.shares:
        yield from ("## Which settings decide", "", f"{report.importance.note}.", "")
        shares = tuple((setting, f"{share:.0%}") for setting, share in report.importance.shares.items())
        yield from (*_table(Grid(metric, ("setting", "share"), shares)), "")
    if report.front:
        best = ", ".join(point.cell for point in report.front if point.on_front)
        names = ", ".join(objective.metric for objective in report.study.objectives)
        yield from (f"No other cell is better in all of {names}, by validation: {escape(best)}.", "")


def _bounds(metric: MetricLabel, gain: Gain) -> str:
    return interval(metric, gain, signed=True)


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
