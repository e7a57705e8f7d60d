"""A study of several sweeps: the same cells trained for longer, or on other data, side by side.

Each sweep has its own report; this one has what they share: agreement with the paper by cost, whether the order still
changes, and which verdicts are the same in every sweep.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from workbench.config.study import Study
from workbench.results.facts import machine_of
from workbench.results.report import StudyReport, report_on
from workbench.results.table import SHOWN
from workbench.runs.directory import RunDirectory
from workbench.runs.studies import stored_name
from workbench.statistics.rank_agreement import AGREE, Agreement, rank_agreement, tau_text
from workbench.statistics.verdict import SETTLED, pooled_spread
from workbench.views.metrics import MetricLabel


@dataclass(frozen=True)
class SideBySide:
    """The reports of a study's sweeps that have finished runs, in the study's order; ``source``: its name or file."""

    study: Study
    source: str
    reports: tuple[StudyReport, ...]

    @property
    def metrics(self) -> list[MetricLabel]:
        """Recall and zero-shot accuracy, as far as measured; the main metric otherwise."""
        every = {label.name: label for report in self.reports for label in report.table.metrics}
        shown = [every[name] for name in SHOWN if name in every]
        return shown or [label for label in (self.reports[0].main,) if label]

    @property
    def by_name(self) -> dict[str, StudyReport]:
        return {report.table.name: report for report in self.reports}


def side_by_side(study: Study, runs_dir: Path, source: str = "", *, quick: bool = False) -> SideBySide:
    """The reports of the study's sweeps, or of their rehearsals; those without a finished run are left out.

    Raises:
        ValueError: none has a run, or the folder cannot be read.
    """
    parts = [part.quick() if quick else part for part in study.parts()]
    every = [report_on(part, stored_name(part, quick=quick), runs_dir, source or study.name) for part in parts]
    found = tuple(report for report in every if any(cell.finished for cell in report.table.cells))
    if not found:
        raise ValueError(
            f"{runs_dir} has no finished run of study '{study.name}' yet: start it with {sweep_command(study, source)}"
        )
    return SideBySide(study, source or study.name, found)


def sweep_command(study: Study, source: str) -> str:
    """The command that trains all sweeps."""
    return f"workbench sweep --study {source or study.name}"


def cpu_s(side: SideBySide) -> dict[str, float]:
    """CPU seconds of one seed of all cells, by sweep: its steps at the fastest pace of any; 0 if unknown.

    Runs record elapsed time, which other processes stretch, so the pace is the least of all seeds of all sweeps with
    the same student, teacher and batch. The test at the end is in it.
    """
    kinds = {
        name: (one.made_on.student, one.made_on.teacher, one.made_on.batch_size) for name, one in side.by_name.items()
    }
    steps = {name: fmean(one.made_on.steps) for name, one in side.by_name.items()}
    own = {name: _elapsed_s(one) / steps[name] for name, one in side.by_name.items()}
    paces = {
        kind: min((own[name] for name in own if own[name] and kinds[name] == kind), default=0)
        for kind in kinds.values()
    }
    return {name: steps[name] * paces[kind] for name, kind in kinds.items()}


def _elapsed_s(report: StudyReport) -> float:
    """The least time of one seed of all cells, times the threads; the time that a cohort shares counts once."""
    by_seed: dict[int, set[tuple[float, int]]] = {}
    runs = {one.run.id: one.run for one in report.found.runs}
    for cell in report.table.cells:
        for one in cell.finished:
            if "elapsed_s" in one.metrics and one.run in runs:
                by_seed.setdefault(one.seed, set()).add((one.metrics["elapsed_s"], _num_threads(runs[one.run])))
    seeds = [{one.seed for one in cell.finished} for cell in report.table.cells]
    complete = [by_seed[seed] for seed in by_seed if all(seed in finished for finished in seeds)]
    return min((sum(elapsed * threads for elapsed, threads in of) for of in complete), default=0.0)


def _num_threads(run: RunDirectory) -> int:
    return int(machine_of(run).get("num_threads", 1))


def to_last(side: SideBySide) -> dict[str, dict[str, Agreement]]:
    """Agreement of the order of each sweep's cells with the last sweep's, by sweep and metric; not of the last itself.

    Intervals cover the seeds of both.
    """
    last = side.reports[-1]
    found: dict[str, dict[str, Agreement]] = {}
    for report in side.reports[:-1]:
        found[report.table.name] = {}
        for metric in side.metrics:
            ours, theirs = (_values(one, metric.name) for one in (report, last))
            both = [cell for cell in ours if cell in theirs]
            parts = [(pooled_spread(of), min((len(of[cell]) for cell in both), default=1)) for of in (ours, theirs)]
            # sd is that of a difference of two cells, √2 times a cell's own.
            error = sum(spread.sd**2 / (2 * fewest) for spread, fewest in parts) ** 0.5
            our_means, their_means = ([fmean(of[cell].values()) for cell in both] for of in (ours, theirs))
            if agreed := rank_agreement(our_means, their_means, error, min(spread.df for spread, _ in parts)):
                found[report.table.name][metric.name] = agreed
    return found


def _values(report: StudyReport, metric: str) -> dict[str, dict[int, float]]:
    return {cell.name: of for cell in report.table.cells if (of := cell.by_seed(metric))}


def same_verdicts(side: SideBySide, metric: str) -> dict[str, bool | None]:
    """By cell of all sweeps: whether all settled on the same verdict; None if one is still open."""
    first, *others = (
        {cell: of[metric] for cell, of in one.table.entries.items() if metric in of} for one in side.reports
    )
    found: dict[str, bool | None] = {}
    if not others:
        return found
    for cell in (cell for cell in first if all(cell in of for of in others)):
        verdicts = {of[cell].verdict for of in (first, *others)}
        if cell != side.study.baseline and verdicts != {""}:
            found[cell] = len(verdicts) == 1 if verdicts <= set(SETTLED) else None
    return found


def shared_findings(side: SideBySide) -> list[str]:
    """Since when the order agrees with the paper's, whether it still changes, and which verdicts are the same."""
    lines, final = [], to_last(side)
    for metric in side.metrics:
        agreed = agreement_by_sweep(side, metric.name)
        if agreed:
            taus = ", ".join(f"{name} {tau_text(of)}" for name, of in agreed.items())
            lines.append(f"{metric.label}: Kendall's τ with the paper's order: {taus}. {_since(agreed)}")
        orders = {name: of[metric.name] for name, of in final.items() if metric.name in of}
        if orders:
            taus = ", ".join(f"{name} {tau_text(of)}" for name, of in orders.items())
            lines.append(f"{metric.label}: Kendall's τ with the order of {side.reports[-1].table.name}: {taus}.")
        if same := same_verdicts(side, metric.name):
            counts = [sum(one is kind for one in same.values()) for kind in (True, False, None)]
            different = [cell for cell, one in same.items() if one is False]
            named = f" ({', '.join(different)})" if different else ""
            lines.append(
                f"{metric.label}: of {len(same)} verdicts {counts[0]} are the same in all sweeps, {counts[1]} "
                f"differ{named}, and {counts[2]} are open in at least one."
            )
    return lines


def agreement_by_sweep(side: SideBySide, metric: str) -> dict[str, Agreement]:
    """Agreement with the published order, by sweep."""
    return {name: found for name, report in side.by_name.items() if (found := report.agreement.get(metric))}


def _since(agreed: Mapping[str, Agreement]) -> str:
    """The first sweep from which on every order agrees with the paper's."""
    since = ""
    for name, of in agreed.items():
        since = (since or name) if of.verdict == AGREE else ""
    return f"They agree from {since} on." if since else "The last does not show that they agree."
