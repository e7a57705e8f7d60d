"""A study's results in words: verdicts, the best of a search against its rivals, and the state of the runs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.results.report import StudyReport
from workbench.results.table import SHOWN, Interpretation, interpret_against
from workbench.statistics.intervals import Gain
from workbench.statistics.power import MOST_SEEDS
from workbench.statistics.rank_agreement import Agreement
from workbench.statistics.verdict import DIFFERENT, Verdict
from workbench.views.metrics import MetricLabel, metric_label
from workbench.views.study import StudyCell

OPPOSITE: Mapping[Verdict, Verdict] = {"better": "worse", "worse": "better", "higher": "lower", "lower": "higher"}
MOST_NAMED = 10


def findings(report: StudyReport) -> list[str]:
    """Verdicts, minimum detectable effect, and agreement with the paper's order; the main metric first."""
    metric = report.main
    compared = report.to_baseline.get(metric.name) if metric else None
    lines = confirmation_lines(report)
    if metric and compared:
        lines += verdict_lines(metric, compared)
    last = report.stages[-1] if report.stages else report  # configurations are compared at the last length
    if metric and (best := last.to_best.get(metric.name)) and last.best != last.table.baseline:
        lines += _near_the_best(metric, best)
    # Of a fixed number of seeds; a sequential study adds seeds to what is open instead.
    if metric and compared and not compared.spread.sequential and math.isfinite(compared.detectable):
        lines.append(power_line(metric, compared))
    for label in report.table.metrics:
        if label.name in SHOWN and label != metric and label.name in report.to_baseline:
            lines += verdict_lines(label, report.to_baseline[label.name])
    lines += [
        agreement_line(label, report.agreement[label.name])
        for label in report.table.metrics
        if label.name in report.agreement
    ]
    return lines + list(_forecast(report))


PHRASES: Mapping[Verdict, str] = {
    "better": "beats {rival}",
    "worse": "does not beat {rival}, which is better",
    "equivalent": "is equivalent to {rival} within the margin",
    "open": "against {rival} is open",
    "not enough seeds": "cannot be compared with {rival} with so few seeds",
}


@dataclass(frozen=True)
class RivalComparison:
    """A best configuration against one rival, in one metric.

    ``gain`` is that of the best over the rival, on the held-out seeds that both finished; None if there are none.
    ``p_value`` is Holm-adjusted over the rivals; ``num_seeds_needed`` is the number of seeds for a verdict with 80 %
    power if the true difference is the measured one.
    """

    best: str
    rival: str
    metric: MetricLabel
    verdict: Verdict = "not enough seeds"
    gain: Gain | None = None
    p_value: float = 1.0
    num_seeds_needed: int | None = None

    @property
    def text(self) -> str:
        """The result as a sentence."""
        claim = f"{self.best} {PHRASES[self.verdict].format(rival=repr(self.rival))}"
        if self.gain is None:
            return f"{claim}: no seed finished for both"
        mean, bounds = self.metric.number(self.gain.mean, signed=True), self._bounds
        size = f"{mean} {self.metric.difference_unit}".rstrip()
        seeds = f"({f'95 % {bounds}, ' if bounds else ''}{_seeds(len(self.gain.per_seed))})"
        needed = f"; {self._needed} if the true difference is that large" if self.verdict == "open" else ""
        return f"{claim}: {self.metric.label} {size} {seeds}{needed}"

    @property
    def line(self) -> str:
        """The result as a line of a report; empty without a shared seed."""
        if self.gain is None:
            return ""
        mean, bounds = self.metric.number(self.gain.mean, signed=True), self._bounds
        where = f"{self.metric.label} on {len(self.gain.per_seed)} held-out seeds"
        needed = f", {self._needed}" if self.verdict == "open" else ""
        size = f"{mean}{f' ({bounds})' if bounds else ''}"
        return f"{where}: {self.best} against {self.rival} {size}: {self.verdict}{needed}."

    @property
    def _needed(self) -> str:
        assert self.gain is not None
        return needed_text(self.num_seeds_needed, self.gain)

    @property
    def _bounds(self) -> str:
        return self.metric.interval(self.gain.low, self.gain.high, signed=True) if self.gain else ""

    def to_json(self) -> dict[str, Any]:
        """An entry of ``answers`` in ``--json``."""
        return {
            "best": self.best,
            "rival": self.rival,
            "metric": self.metric.name,
            "verdict": self.verdict,
            "gain": self.gain.to_json() if self.gain else None,
            "p_value": self.p_value,
            "seeds_needed": self.num_seeds_needed,
            "text": self.text,
        }


def against_rivals(
    metric: MetricLabel, cells: Sequence[StudyCell], best: Sequence[str], margin: float
) -> list[RivalComparison]:
    """Every best configuration against every rival: all other cells of the confirmation; ``margin`` in points."""
    rivals = [cell.name for cell in cells if cell.name not in best]
    found = []
    for name in best:
        compared = interpret_against((metric,), cells, name, rivals, margin=margin).get(metric.name)
        for rival in rivals:
            # Without a seed that both finished, the pair is still listed, as not comparable.
            if compared is None or rival not in compared.gains:
                found.append(RivalComparison(name, rival, metric))
                continue
            verdict = compared.verdicts[rival]
            found.append(
                RivalComparison(
                    name,
                    rival,
                    metric,
                    # The comparison is of each rival with the best; the sentence is about the best.
                    OPPOSITE.get(verdict, verdict),
                    -compared.gains[rival],
                    compared.p_values[rival],
                    compared.seeds_needed(rival),
                )
            )
    return found


def rival_comparisons(report: StudyReport, metrics: Sequence[MetricLabel]) -> list[RivalComparison]:
    """A search's best against each rival on held-out seeds, Holm-corrected over the rivals; empty before these."""
    if report.confirmed is None:
        return []
    cells, tried = report.confirmed.table.cells, {cell.name for cell in report.table.cells}
    best = [cell.name for cell in cells if cell.name in tried]
    return [one for metric in metrics for one in against_rivals(metric, cells, best, report.study.margin)]


def confirmation_lines(report: StudyReport) -> list[str]:
    """Gains of a search's best over each rival on held-out seeds."""
    metrics = [report.main] if report.main else []
    return [one.line for one in rival_comparisons(report, metrics) if one.line]


def verdict_lines(metric: MetricLabel, compared: Interpretation) -> Iterator[str]:
    """Which cells differ from the reference cell, and by how much; for the others, what would settle it."""
    for verdict in sorted(set(compared.verdicts.values()), key=lambda one: (one not in DIFFERENT, one)):
        cells = [cell for cell, found in compared.verdicts.items() if found == verdict]
        sizes = _named([f"{cell} ({metric.number(compared.gains[cell].mean, signed=True)})" for cell in cells])
        if verdict in DIFFERENT:
            yield f"{metric.label}: {verdict} than {compared.against}: {sizes}."
        elif verdict == "not enough seeds":
            yield f"{metric.label}: not enough seeds to compare {_named(cells)} with {compared.against}."
        elif verdict == "equivalent":
            margin = f"{metric.number(compared.margin)} {metric.difference_unit}"
            yield f"{metric.label}: equivalent to {compared.against}, within {margin}: {sizes}."
        else:
            # Settled cells may have fewer seeds than those that are still open.
            num_seeds = min(len(compared.gains[cell].per_seed) for cell in cells)
            against = f"{compared.against} with {_seeds(num_seeds)}"
            yield f"{metric.label}: open against {against}: {_open_cells(metric, compared, cells)}."


def _open_cells(metric: MetricLabel, compared: Interpretation, cells: Sequence[str]) -> str:
    """Each cell's difference, the bound on its size, and the number of seeds that would settle it."""

    def one(cell: str) -> str:
        gain = compared.gains[cell]
        bound = max(abs(gain.low), abs(gain.high))
        parts = [metric.number(gain.mean, signed=True)]
        parts += [f"at most {metric.number(bound)} either way"] if math.isfinite(bound) else []
        parts.append(needed_text(compared.seeds_needed(cell), gain))
        return f"{cell} ({', '.join(parts)})"

    return _named([one(cell) for cell in cells])


def _near_the_best(metric: MetricLabel, compared: Interpretation) -> Iterator[str]:
    """Which cells are equivalent to the best, and how many seeds would decide on the others that may be."""
    best = f"{compared.against}, the best by validation,"
    by_verdict = {
        verdict: [cell for cell, found in compared.verdicts.items() if found == verdict]
        for verdict in ("equivalent", "open", "not enough seeds")
    }
    if not any(by_verdict.values()):
        yield f"{metric.label}: {best} differs significantly from all other cells."
        return
    parts = []
    if alike := by_verdict["equivalent"]:
        margin = f"{metric.number(compared.margin)} {metric.difference_unit}"
        parts.append(f"is equivalent to {_named(alike)}, within {margin}")
    if by_verdict["open"]:
        by_need: dict[str, list[str]] = {}
        for cell in sorted(by_verdict["open"], key=lambda cell: compared.seeds_needed(cell) or math.inf):
            by_need.setdefault(needed_text(compared.seeds_needed(cell), compared.gains[cell]), []).append(cell)
        groups = [f"{_named(cells)} ({needed})" for needed, cells in list(by_need.items())[:MOST_NAMED]]
        parts.append(f"is open against {', '.join(groups)}")
    if few := by_verdict["not enough seeds"]:
        parts.append(f"shares too few seeds with {_named(few)}")
    yield f"{metric.label}: with {_seeds(compared.num_seeds)}, {best} {'; '.join(parts)}."


def power_line(metric: MetricLabel, compared: Interpretation) -> str:
    """The minimum detectable effect."""
    size = f"{metric.number(compared.detectable)} {metric.difference_unit}".rstrip()
    return f"{metric.label}: the minimum detectable effect with {_seeds(compared.num_seeds)} is {size} (80 % power)."


def agreement_line(metric: MetricLabel, agreed: Agreement) -> str:
    """Agreement of our order of the cells with the paper's."""
    tau, low, high = map(_signed, (agreed.tau, agreed.low, agreed.high))
    numbers = f"Kendall τ {tau}, 95 % {low} to {high}, permutation p = {agreed.p_value:.2g}"
    by = f" by {metric_label(agreed.published).label}" if agreed.published else ""
    what = f"{metric.label}: our order of {agreed.num_cells} cells against the paper's{by}"
    return f"{what}: {agreed.verdict} ({numbers})."


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "\N{MINUS SIGN}")


def _forecast(report: StudyReport) -> Iterator[str]:
    if report.forecast:
        steps = max(report.made_on.steps, default=0)
        parts = [
            (f"{step / steps:.0%} of training" if steps else f"step {step:,}") + f" τ {_signed(agreed.tau)}"
            for step, agreed in report.forecast.items()
        ]
        yield f"Order by validation against the final order: after {', after '.join(parts)} (Kendall's τ)."


def needed_text(num_seeds: int | None, gain: Gain) -> str:
    """The number of seeds that would decide an open comparison; unknown without an interval."""
    if not math.isfinite(gain.high):
        return "more seeds needed"
    return f"about {num_seeds:,} seeds needed" if num_seeds else f"more than {MOST_SEEDS:,} seeds needed"


def progress(cells: Sequence[StudyCell]) -> str:
    """Number of runs by state."""
    states = [one.state for cell in cells for one in cell.replicates]
    counts = {state: states.count(state) for state in dict.fromkeys(sorted(states, key=lambda one: one != "finished"))}
    return f"{len(states)} runs: " + ", ".join(f"{count} {state}" for state, count in counts.items())


def troubles(cells: Sequence[StudyCell]) -> list[str]:
    """Started runs that have not finished, each with its reason."""
    return [
        f"{cell.name}, seed {one.seed}: {one.state_text}" + (f": {one.reason}" if one.reason else "")
        for cell in cells
        for one in cell.replicates
        if not one.is_finished and one.run
    ]


def _seeds(number: int) -> str:
    return f"{number} seed" + ("s" if number != 1 else "")


def _named(cells: Sequence[str]) -> str:
    shown = ", ".join(cells[:MOST_NAMED])
    return f"{shown} and {len(cells) - MOST_NAMED} more" if len(cells) > MOST_NAMED else shown
