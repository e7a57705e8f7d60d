"""What a study's numbers say, in sentences that claim no more than they carry."""

import math
from collections.abc import Iterator, Sequence

from workbench.report.comparison import Interpretation, interpret_against
from workbench.report.study import SHOWN, StudyReport
from workbench.statistics.rank_agreement import Agreement
from workbench.views.metrics import MetricLabel
from workbench.views.study import StudyCell

SEEN = ("better", "worse", "higher", "lower")
OPPOSITE = {"better": "worse", "worse": "better", "higher": "lower", "lower": "higher"}
MOST_NAMED = 10
SURE = 0.05


def findings(report: StudyReport) -> list[str]:
    """The verdicts, what could have been seen, and how the order compares with the paper's; the main metric first."""
    metric = report.main
    told = report.to_baseline.get(metric.name) if metric else None
    said = list(confirmation_lines(report))
    if metric and told:
        said += verdict_lines(metric, told)
    if metric and (best := report.to_best.get(metric.name)) and report.best != report.table.baseline:
        said += _near_the_best(metric, best)
    if metric and told and math.isfinite(told.detectable):
        said.append(power_line(metric, told))
    for label in report.table.metrics:
        if label.name in SHOWN and label != metric and label.name in report.to_baseline:
            said += verdict_lines(label, report.to_baseline[label.name])
    said += [
        agreement_line(label, report.agreement[label.name])
        for label in report.table.metrics
        if label.name in report.agreement
    ]
    return said + list(_forecast(report))


def confirmation_lines(report: StudyReport) -> Iterator[str]:
    """What a search's best gains on each of its rivals, at seeds that chose nothing; Holm-corrected over the rivals."""
    confirmed, metric = report.confirmed, report.main
    if confirmed is None or metric is None:
        return
    rows = confirmed.table.cells
    tried = {cell.name for cell in report.table.cells}
    for best in (cell.name for cell in rows if cell.name in tried):
        told = interpret_against((metric,), rows, best).get(metric.name)
        for rival, gain in told.gains.items() if told else ():
            bounds = metric.interval(-gain.high, -gain.low, signed=True)
            said = OPPOSITE.get(told.verdicts[rival], told.verdicts[rival]) if told else ""
            yield (
                f"{metric.label} with {len(gain.per_seed)} fresh seeds: {best} on {rival} "
                f"{metric.number(-gain.mean, signed=True)}{f' ({bounds})' if bounds else ''}: {said}."
            )


def verdict_lines(metric: MetricLabel, told: Interpretation) -> Iterator[str]:
    """Which cells differ from the one that all are compared with, and by how much."""
    for verdict in sorted(set(told.verdicts.values()), key=lambda one: (one not in SEEN, one)):
        cells = [cell for cell, said in told.verdicts.items() if said == verdict]
        sizes = _named([f"{cell} ({metric.number(told.gains[cell].mean, signed=True)})" for cell in cells])
        if verdict in SEEN:
            yield f"{metric.label}: {verdict} than {told.against}: {sizes}."
        elif verdict == "not enough seeds":
            yield f"{metric.label}: not enough seeds to compare {_named(cells)} with {told.against}."
        else:
            yield f"{metric.label}: no difference from {told.against} seen with {_seeds(told)}: {sizes}."


def _near_the_best(metric: MetricLabel, told: Interpretation) -> Iterator[str]:
    """Which cells the data cannot tell from the best, and how many seeds would."""
    alike = [cell for cell, said in told.verdicts.items() if said not in SEEN]
    if not alike:
        yield f"{metric.label}: {told.against}, the best by validation, differs from every other cell with figures."
        return
    by_need: dict[int | None, list[str]] = {}
    for cell in alike:
        by_need.setdefault(told.seeds_needed(cell) if told.num_seeds > 1 else None, []).append(cell)
    parts = [
        f"{_named(by_need[needed])} (about {needed} seeds would tell)"
        for needed in sorted(needed for needed in by_need if needed)[:MOST_NAMED]
    ]
    if by_need.get(None):
        parts.append(_named(by_need[None]))
    yield (
        f"{metric.label}: {told.against}, the best by validation, cannot be told apart with {_seeds(told)} from "
        f"{'; '.join(parts)}."
    )


def power_line(metric: MetricLabel, told: Interpretation) -> str:
    """What the seeds at hand would have shown."""
    unit = "points" if metric.unit == "%" else metric.unit
    size = f"{metric.number(told.detectable)} {unit}".rstrip()
    return f"{metric.label}: with {_seeds(told)} a true difference of {size} would be seen four times in five."


def agreement_line(metric: MetricLabel, agreed: Agreement) -> str:
    """How far our order of the cells is the paper's."""
    tau, low, high = map(_signed, (agreed.tau, agreed.low, agreed.high))
    numbers = f"Kendall τ {tau}, 95 % {low} to {high}, p = {agreed.p_value:.2g} were all orders as likely"
    what = f"{metric.label}: our order of {agreed.num_cells} cells against the paper's"
    return f"{what}: {agreement_word(agreed)} ({numbers})."


def agreement_word(agreed: Agreement) -> str:
    """What may be said of two orders: nothing where any order would have been too likely by chance."""
    if agreed.p_value < SURE and agreed.low * agreed.high > 0:
        return "they agree" if agreed.low > 0 else "they are opposed"
    return "too few cells to tell" if agreed.least_p_value >= SURE else "neither agreement nor the reverse is shown"


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "\N{MINUS SIGN}")


def _forecast(report: StudyReport) -> Iterator[str]:
    if report.forecast:
        steps = max(report.made_on.steps, default=0)
        parts = [
            (f"{step / steps:.0%} of training" if steps else f"step {step:,}") + f" τ {_signed(agreed.tau)}"
            for step, agreed in report.forecast.items()
        ]
        yield f"How the order by validation foretold the final one: after {', after '.join(parts)} (Kendall's τ)."


def progress(cells: Sequence[StudyCell]) -> str:
    """How far the study has come, by states."""
    states = [one.state for cell in cells for one in cell.replicates]
    counts = {state: states.count(state) for state in dict.fromkeys(sorted(states, key=lambda one: one != "finished"))}
    return f"{len(states)} runs: " + ", ".join(f"{count} {state}" for state, count in counts.items())


def troubles(cells: Sequence[StudyCell]) -> list[str]:
    """Every run that has not finished, but those that have not begun, with its reason."""
    return [
        f"{cell.name}, seed {one.seed}: {one.state_text}" + (f": {one.reason}" if one.reason else "")
        for cell in cells
        for one in cell.replicates
        if not one.is_finished and one.run
    ]


def _seeds(told: Interpretation) -> str:
    return f"{told.num_seeds} seed" + ("s" if told.num_seeds != 1 else "")


def _named(cells: Sequence[str]) -> str:
    shown = ", ".join(cells[:MOST_NAMED])
    return f"{shown} and {len(cells) - MOST_NAMED} more" if len(cells) > MOST_NAMED else shown
