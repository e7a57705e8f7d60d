"""Results of a sweep from the trials in its database: the table, the best of a search against its rivals, and JSON."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from workbench.config.study import Study
from workbench.results.table import COSTS, cells_of_trials, interpret_against, study_table
from workbench.results.words import RivalComparison, against_rivals
from workbench.sweeps.confirm import short_name
from workbench.sweeps.ledger import Trial
from workbench.sweeps.sweep import Sweep
from workbench.views.metrics import metric_label
from workbench.views.study import StudyCell, StudyTable, shown_metrics


def trials_table(sweep: Sweep, trials: Sequence[Trial]) -> StudyTable:
    """The table of trials with all evaluation metrics, compared with the study's baseline or first warm start."""
    cells = cells_of_trials(trials)
    names = [name for cell in cells for one in cell.finished for name in one.metrics if name not in COSTS]
    metrics = shown_metrics(names, cells)
    first = trials[0].name if sweep.study.warm_start and trials else ""
    baseline = sweep.study.baseline or first
    tested = any(outcome.test_metrics for trial in trials for outcome in trial.outcomes.values())
    study = sweep.study
    compared = interpret_against(metrics, cells, baseline, margin=study.margin, sequential=study.is_sequential)
    split = "test" if tested else "validation"
    return study_table(sweep.study, sweep.request.study_name, cells, split, baseline, metrics, compared)


def answers(study: Study, trials: Sequence[Trial], best: Sequence[str]) -> list[RivalComparison]:
    """Every best configuration against every rival of the confirmation, by objective."""
    labels = [
        replace(metric_label(one.metric), higher_is_better=one.direction == "maximize")  # the user's direction counts
        for one in study.objectives
    ]
    cells = cells_of_trials(trials)
    return [answer for label in labels for answer in against_rivals(label, cells, best, study.margin)]


def gains_on_rivals(trials: Sequence[Trial], best: Sequence[str]) -> dict[str, Any]:
    """Gains of the best over their rivals in all metrics, for JSON: by rival, then best, then metric."""
    cells = cells_of_trials(trials)
    metrics = shown_metrics((name for cell in cells for one in cell.finished for name in one.metrics), cells)
    names = [cell.name for cell in cells if cell.name in best]
    gains: dict[str, Any] = {}
    for rival in cells:
        if rival.name not in best:
            compared = interpret_against([one for one in metrics if one.name not in COSTS], cells, rival.name, names)
            gains[rival.name] = {
                name: {metric: of.gains[name].to_json() for metric, of in compared.items() if name in of.gains}
                for name in names
            }
    return gains


def sweep_document(sweep: Sweep) -> dict[str, Any]:
    """The document of ``sweep --json``."""
    trials = sweep.trials
    table = trials_table(sweep, trials)
    document: dict[str, Any] = {
        "study": table.name,
        "question": table.question,
        "baseline": sweep.study.baseline,
        "cells": [_cell(trial, cell, table) for trial, cell in zip(trials, table.cells, strict=True)],
    }
    if sweep.study.search:
        best = sweep.best
        document |= {"best": best, "unbeaten": sweep.unbeaten}
        document["tuned"] = {short_name(recipe): sweep_document(part) for recipe, part in sweep.started_tunings.items()}
        if confirmation := sweep.started_confirmation:
            held_out = confirmation.trials
            document["confirmed"] = sweep_document(confirmation) | {"gains_on": gains_on_rivals(held_out, best)}
            document["answers"] = [one.to_json() for one in answers(sweep.study, held_out, best)]
    return document


def _cell(trial: Trial, cell: StudyCell, table: StudyTable) -> dict[str, Any]:
    entries = table.entries[cell.name]
    return {
        "name": cell.name,
        "trial": trial.number,
        "values": dict(cell.values),
        "state": trial.shown_state,
        "reason": next((one.reason for one in cell.replicates if one.reason), ""),
        "runs": [one.run for one in cell.replicates if one.run],
        "seeds": list(trial.outcomes),
        "metrics": {metric: entry.mean.to_json() for metric, entry in entries.items() if entry.mean},
        "gains": {metric: entry.gain.to_json() for metric, entry in entries.items() if entry.gain},
    }
