"""Collecting the runs of a study from the runs folder: every cell at every seed, including missing ones."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.config.cells import cells_of
from workbench.config.inheritance import TOWERS
from workbench.config.study import Study
from workbench.events import EvalDone, RunStarted, StepDone
from workbench.runs.log import first_events, last_events
from workbench.runs.snapshots import MaskSnapshot, read_snapshot_history
from workbench.runs.studies import StudyRun, counted, runs_of_study, studies_with_runs
from workbench.runs.summary import Summary, summary_or_reason
from workbench.views.architecture import architecture
from workbench.views.study import DROPPED, MISSING, Replicate, StudyCell

LOSSES = ("loss_scratch", "loss_converged")


@dataclass(frozen=True)
class Collected:
    """A study's cells, in the order of its file or of a search's trials, and their runs."""

    cells: tuple[StudyCell, ...]
    runs: tuple[StudyRun, ...]
    split: str


def collect(study: Study, name: str, runs_dir: Path) -> Collected:
    """All runs of the study of this name, including cells that are no longer in its file.

    Metrics are of the test pairs, which selected nothing; of the validation pairs if no run has test metrics.

    Raises:
        ValueError: a cell of the study is invalid, or the folder cannot be read.
    """
    found = counted(runs_of_study(runs_dir, name))
    summaries = {one.run.id: summary_or_reason(one.run, from_log=True) for one in found}
    tested = any(summary.test_metrics for summary in summaries.values())
    split = "test" if tested else "validation"
    published = {metric for of in study.paper.cells.values() for metric in of} if study.paper else set()
    loss = next((key.split(".")[1] for key in sorted(study.varied) if key.startswith("loss.")), "")
    replicates = {
        (one.origin.cell, one.origin.seed): _replicate(one, summaries[one.run.id], split, published, loss)
        for one in found
    }
    seeds = sorted({*range(study.first_seed, study.first_seed + study.seeds), *(one.origin.seed for one in found)})
    trials = {one.origin.cell: one.origin.trial for one in found}
    # Seeds that a search had not started when its confirmation started were pruned by racing.
    unbegun = DROPPED if study.pruner == "racing" and confirmation_name(name, runs_dir) else MISSING
    planned = {cell.name: cell.values for cell in cells_of(study)}
    values = planned | {one.origin.cell: one.origin.values for one in found if one.origin.cell not in planned}
    cells = tuple(
        StudyCell(
            cell,
            values[cell],
            tuple(replicates.get((cell, seed), Replicate(seed, unbegun)) for seed in seeds),
            trials.get(cell),
        )
        for cell in values
    )
    return Collected(cells, tuple(found), split)


def confirmation_name(name: str, runs_dir: Path) -> str:
    """Name of the confirmation of a search after the most trials; empty if there is none."""
    found = [re.fullmatch(rf"{re.escape(name)}-best-of-(\d+)", study) for study in studies_with_runs(runs_dir)]
    return max((match for match in found if match), key=lambda match: int(match[1]), default=("",))[0]


def _replicate(one: StudyRun, summary: Summary, split: str, published: set[str], loss: str) -> Replicate:
    if summary.state == "unreadable":
        return Replicate(one.origin.seed, summary.state, one.run.id, reason=summary.reason)
    first = first_events(one.run.events_file)
    last = last_events(one.run.events_file)
    num_items = [event.num_pairs for event in last if isinstance(event, EvalDone) and event.split == split]
    num_params = [event.num_parameters for event in first if isinstance(event, RunStarted)]
    own = {"elapsed_s": summary.elapsed_s, **({"num_params": float(num_params[0])} if num_params else {})}
    if published.intersection(LOSSES):
        steps = [event for event in (*first, *last) if isinstance(event, StepDone) and loss in event.weighted]
        own |= dict(zip(LOSSES, (steps[0].weighted[loss], steps[-1].weighted[loss]), strict=True)) if steps else {}
    if any(metric.endswith("_kept") for metric in published):
        own |= dict(_kept(one))
    shown = summary.test_metrics if split == "test" else summary.metrics
    return Replicate(
        seed=one.origin.seed,
        state=summary.state,
        run=one.run.id,
        step=summary.step,
        num_steps=summary.num_steps,
        reason=summary.reason,
        metrics=_finite({**shown, **own}),
        errors=_finite(summary.test_errors if split == "test" else summary.errors),
        validation=_finite({**summary.metrics, **own}),
        num_items=num_items[-1] if num_items else 0,
    )


def _kept(one: StudyRun) -> Iterator[tuple[str, float]]:
    """Fractions of its teacher that an inherited student keeps, by tower: the rows of TinyCLIP's Table 9."""
    snapshots = read_snapshot_history(one.run, MaskSnapshot).found
    for tower, change in architecture(snapshots[-1]).towers.items() if snapshots else ():
        assert tower in TOWERS
        remains = change.kept_shares
        yield f"{tower}_width_kept", remains.embedding
        yield f"{tower}_heads_kept", sum(change.student.heads) / sum(change.teacher.heads)
        yield f"{tower}_channels_kept", sum(change.student.channels) / sum(change.teacher.channels)
        yield f"{tower}_weights_kept", change.student.block_weights / change.teacher.block_weights


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
