"""The table of a study's results: cells by metrics, with intervals, differences, verdicts and the paper's values.

The cells come from the runs in the runs folder, or from the trials in the study's database, which other machines share.
The command line, the reports, the dashboard and the notebooks all render this table.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.config.cells import cells_of
from workbench.config.inheritance import TOWERS
from workbench.config.study import Study
from workbench.events import EvalDone, RunStarted, StepDone
from workbench.runs.log import first_events, last_events
from workbench.runs.snapshots import MaskSnapshot, read_snapshot_history
from workbench.runs.studies import StudyRun, counted, runs_of_study, studies_with_runs
from workbench.runs.summary import Summary, summary_or_reason
from workbench.statistics.intervals import Estimate, Gain, seed_mean
from workbench.statistics.power import detectable, seeds_needed
from workbench.statistics.verdict import FEWEST_SEEDS, Spread, Verdict, judge, pooled_spread
from workbench.views.architecture import architecture
from workbench.views.metrics import MetricLabel
from workbench.views.study import DROPPED, MISSING, Entry, Replicate, StudyCell, StudyTable
from workbench.views.suite import flattened

if TYPE_CHECKING:
    from workbench.sweeps.ledger import Trial

LOSSES = ("loss_scratch", "loss_converged")
COSTS = ("num_params", "elapsed_s")
SHOWN = ("image_to_text_r1", "text_to_image_r1", "zero_shot_top1")


@dataclass(frozen=True)
class Collected:
    """A study's cells, in the order of its file or of a search's trials, and their runs."""

    cells: tuple[StudyCell, ...]
    runs: tuple[StudyRun, ...]
    split: str


def collect(study: Study, name: str, runs_dir: Path) -> Collected:
    """All runs of the study of this name, including cells that are no longer in its file and seeds without a run.

    Metrics are of the test pairs, which selected nothing; of the validation pairs if no run has test metrics.

    Raises:
        ValueError: a cell of the study is invalid, or the folder cannot be read.
    """
    found = counted(runs_of_study(runs_dir, name))
    summaries = {one.run.id: summary_or_reason(one.run, from_log=True) for one in found}
    split = "test" if any(summary.test_metrics for summary in summaries.values()) else "validation"
    replicates = {
        (one.origin.cell, one.origin.seed): _from_run(study, one, summaries[one.run.id], split) for one in found
    }
    every = {*range(study.first_seed, study.first_seed + study.seeds), *(one.origin.seed for one in found)}
    trials = {one.origin.cell: one.origin.trial for one in found}
    # Seeds that a search had not started when its confirmation started were pruned by racing.
    without_run = DROPPED if study.pruner == "racing" and confirmation_name(name, runs_dir) else MISSING
    planned = {cell.name: cell.values for cell in cells_of(study)}
    values = planned | {one.origin.cell: one.origin.values for one in found if one.origin.cell not in planned}
    cells = tuple(
        StudyCell(
            cell,
            values[cell],
            tuple(
                replicates.get((cell, seed), Replicate(seed, without_run))
                for seed in sorted(every)
                # A settled cell of a sequential study gets no further seeds, which are therefore not missing.
                if not study.is_sequential or seed < study.first_seed + study.seeds or (cell, seed) in replicates
            ),
            trials.get(cell),
        )
        for cell in values
    )
    return Collected(cells, tuple(found), split)


def confirmation_name(name: str, runs_dir: Path) -> str:
    """Name of the confirmation of a search after the most trials; empty if there is none."""
    # As numbers: best-of-10 is later than best-of-9.
    found = [re.fullmatch(rf"{re.escape(name)}-best-of-(\d+)", study) for study in studies_with_runs(runs_dir)]
    return max((match for match in found if match), key=lambda match: int(match[1]), default=("",))[0]


def _from_run(study: Study, one: StudyRun, summary: Summary, split: str) -> Replicate:
    if summary.state == "unreadable":
        return Replicate(one.origin.seed, summary.state, one.run.id, reason=summary.reason)
    last = last_events(one.run.events_file, EvalDone)
    num_items = [event.num_pairs for event in last if isinstance(event, EvalDone) and event.split == split]
    own = {"elapsed_s": summary.elapsed_s, **dict(_properties(study, one))}
    # A run that was resumed since then has other weights than those a suite has measured.
    suites, suite_errors = flattened(of for of in summary.suites if of.weights_sha256 == summary.weights_sha256)
    return Replicate(
        seed=one.origin.seed,
        state=summary.state,
        run=one.run.id,
        step=summary.step,
        num_steps=summary.num_steps,
        reason=summary.reason,
        metrics=_finite({**(summary.test_metrics if split == "test" else summary.metrics), **own, **suites}),
        errors=_finite({**(summary.test_errors if split == "test" else summary.errors), **suite_errors}),
        validation=_finite({**summary.metrics, **own}),
        num_items=num_items[-1] if num_items else 0,
    )


def _properties(study: Study, one: StudyRun) -> Iterator[tuple[str, float]]:
    """Properties of a run other than evaluations: its size, and the losses and kept fractions if the paper has them."""
    published = {metric for of in study.paper.cells.values() for metric in of} if study.paper else set()
    first = first_events(one.run.events_file)
    yield from [("num_params", float(event.num_parameters)) for event in first if isinstance(event, RunStarted)][:1]
    if published.intersection(LOSSES):
        loss = next((key.split(".")[1] for key in sorted(study.varied) if key.startswith("loss.")), "")
        events = (*first, *last_events(one.run.events_file, StepDone))
        values = [event.weighted[loss] for event in events if isinstance(event, StepDone) and loss in event.weighted]
        yield from zip(LOSSES, (values[0], values[-1]), strict=True) if values else ()
    if any(metric.endswith("_kept") for metric in published):
        yield from _kept(one)


def _kept(one: StudyRun) -> Iterator[tuple[str, float]]:
    """Fractions of its teacher that an inherited student keeps, by tower: the rows of TinyCLIP's Table 9."""
    snapshots = read_snapshot_history(one.run, MaskSnapshot).snapshots
    for tower, change in architecture(snapshots[-1]).towers.items() if snapshots else ():
        assert tower in TOWERS
        yield f"{tower}_width_kept", change.kept_shares.embedding
        yield f"{tower}_heads_kept", sum(change.student.heads) / sum(change.teacher.heads)
        yield f"{tower}_channels_kept", sum(change.student.channels) / sum(change.teacher.channels)
        yield f"{tower}_weights_kept", change.student.block_weights / change.teacher.block_weights


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def cells_of_trials(trials: "Sequence[Trial]") -> tuple[StudyCell, ...]:
    """The cells of trials, with the outcomes that their runs recorded in the database."""
    return tuple(
        StudyCell(
            trial.name,
            trial.values,
            tuple(_from_trial(trial, seed) for seed in trial.seeds),
            trial.number,
        )
        for trial in trials
    )


def _from_trial(trial: "Trial", seed: int) -> Replicate:
    outcome = trial.outcomes.get(seed)
    if outcome is None:
        return Replicate(seed, DROPPED if trial.is_settled else MISSING)
    own = {"num_params": float(outcome.num_params), "elapsed_s": outcome.elapsed_s}
    return Replicate(
        seed=seed,
        state=outcome.state,
        run=outcome.run,
        step=outcome.step,
        reason=outcome.reason,
        metrics=_finite({**outcome.shown, **own}),
        errors=_finite(outcome.shown_errors),
        validation=_finite({**outcome.metrics, **own}),
        num_items=outcome.num_items,
    )


@dataclass(frozen=True)
class Interpretation:
    """Comparison of all cells with one, on one metric: gains, Holm-adjusted p-values and verdicts.

    ``spread`` is the standard deviation pooled over all cells; ``margin`` the smallest difference that matters, in the
    metric's stored unit, 0 if equivalence was not tested.
    """

    against: str
    gains: Mapping[str, Gain]
    p_values: Mapping[str, float]
    verdicts: Mapping[str, Verdict]
    spread: Spread
    margin: float = 0.0

    @property
    def num_seeds(self) -> int:
        """Smallest number of shared seeds, among comparisons with enough seeds."""
        found = [len(gain.per_seed) for gain in self.gains.values()]
        return min((number for number in found if number >= FEWEST_SEEDS), default=max(found, default=0))

    @property
    def num_tests(self) -> int:
        """Number of comparisons in the Holm correction."""
        return max(1, sum(len(gain.per_seed) >= FEWEST_SEEDS for gain in self.gains.values()))

    @property
    def detectable(self) -> float:
        """Minimum detectable effect at 80 % power of a fixed number of seeds, corrected for the comparisons."""
        return detectable(self.spread, self.num_seeds, num_tests=self.num_tests)

    def seeds_needed(self, cell: str) -> int | None:
        """Approximate number of seeds needed for a verdict if the true difference is the measured one."""
        gain = self.gains[cell]
        num_seeds, num_tests = len(gain.per_seed), self.num_tests
        return seeds_needed(gain.mean, self.spread, num_seeds, num_tests=num_tests, margin=self.margin)


def interpret_against(
    metrics: Sequence[MetricLabel],
    cells: Sequence[StudyCell],
    against: str,
    rivals: Sequence[str] | None = None,
    *,
    margin: float = 0.0,
    sequential: bool = False,
) -> dict[str, Interpretation]:
    """Comparisons of cells (by default all) with the cell ``against``, for every metric that it has.

    Args:
        margin: the smallest difference that matters, in percentage points; 0 for no test of equivalence.
        sequential: whether the results decided on the number of seeds.
    """
    found = {}
    for metric in metrics:
        values = {cell.name: of for cell in cells if (of := cell.by_seed(metric.name))}
        # Loss values with different weights are not comparable.
        if against not in values or len(values) < 2 or metric.name in LOSSES:
            continue
        spread = pooled_spread(values, sequential=sequential)
        if spread.sd == 0 and any(metric.name in one.errors for cell in cells for one in cell.finished):
            # Means over few test pairs can agree at all seeds by coincidence, which proves nothing.
            spread = Spread(math.nan, 0)
        compared = {cell: of for cell, of in values.items() if cell == against or rivals is None or cell in rivals}
        least = metric.margin(margin)
        judged = judge(compared, against, spread, metric.higher_is_better, margin=least)
        found[metric.name] = Interpretation(
            against,
            {cell: one.gain for cell, one in judged.items()},
            {cell: one.p_value for cell, one in judged.items()},
            {cell: one.verdict for cell, one in judged.items()},
            spread,
            least,
        )
    return found


def study_table(
    study: Study,
    name: str,
    cells: Sequence[StudyCell],
    split: str,
    baseline: str,
    metrics: Sequence[MetricLabel],
    compared: Mapping[str, Interpretation],
) -> StudyTable:
    """The table of these cells; ``compared`` has their comparisons with the baseline, by metric."""
    published = study.paper.cells if study.paper else {}
    source = study.paper.source if study.paper else ""

    def entry(cell: StudyCell, metric: MetricLabel) -> Entry:
        paper, theirs = (published.get(one, {}).get(metric.name) for one in (cell.name, baseline))
        against = compared.get(metric.name)
        verdict = against.verdicts.get(cell.name, "") if against else ""
        return Entry(
            mean=_estimate(cell, metric.name),
            gain=against.gains.get(cell.name) if against else None,
            p_value=against.p_values.get(cell.name) if against else None,
            verdict=verdict,
            seeds_needed=against.seeds_needed(cell.name) if against and verdict == "open" else None,
            paper=paper,
            paper_gain=None if paper is None or theirs is None or cell.name == baseline else paper - theirs,
        )

    entries = {cell.name: {metric.name: entry(cell, metric) for metric in metrics} for cell in cells}
    return StudyTable(name, study.question, baseline, split, tuple(metrics), tuple(cells), entries, source)


def _estimate(cell: StudyCell, metric: str) -> Estimate | None:
    """Mean over seeds; the interval covers test items if the metric has standard errors."""
    values = cell.by_seed(metric)
    if not values:
        return None
    found = [one for one in cell.finished if one.seed in values]
    errors = [one.errors[metric] for one in found if metric in one.errors]
    # Runs of earlier versions recorded no errors; mixed intervals would not be comparable.
    if len(errors) < len(found):
        return seed_mean(list(values.values()))
    return seed_mean(list(values.values()), errors, num_items=min(one.num_items for one in found))


def best_first(study: Study, cells: Sequence[StudyCell]) -> list[StudyCell]:
    """All cells in order; for a search, the best by validation first."""
    if not study.search:
        return list(cells)
    objective = study.objectives[0]
    sign = -1 if objective.direction == "maximize" else 1

    def rank(cell: StudyCell) -> tuple[int, float]:
        values = cell.by_seed(objective.metric, validation=True)
        # Trials with more finished seeds come first: a mean over one seed may be luck.
        return -len(values), sign * (cell.validation_mean(objective.metric) or 0.0)

    return sorted(cells, key=rank)
