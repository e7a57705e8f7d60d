"""The state of a study: its report, what its storage holds of its trials, and the time left.

Neither torch nor Optuna is loaded: the report is made from run directories, and the storage's SQLite file is read.
"""

import json
import shlex
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from workbench.config.cells import as_text, make_cell, parse_values
from workbench.config.study import Study
from workbench.events import RunFinished, StepDone
from workbench.formatting import duration
from workbench.results.analysis import learning_of, validation_curves
from workbench.results.report import StudyReport, report_on
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import TAKES_COMMANDS
from workbench.runs.log import last_events
from workbench.runs.studies import counted, find_study, runs_of_study
from workbench.sweeps.storage import default_file
from workbench.views.curves import LearningView
from workbench.views.study import StudyCell

LOCK_TIMEOUT_S = 0.5  # SQLite's wait for a storage that a worker is writing
TRIALS = """
SELECT trials.number, trials.state, attributes.key, attributes.value_json
FROM trials JOIN studies USING (study_id) JOIN trial_user_attributes AS attributes USING (trial_id)
WHERE studies.study_name = ? AND attributes.key IN ('name', 'outcome', 'reason') ORDER BY trials.number
"""
LOST = ("PRUNED", "FAIL")
QUEUED = """
SELECT trials.number, attributes.value_json
FROM trials JOIN studies USING (study_id) JOIN trial_system_attributes AS attributes USING (trial_id)
WHERE studies.study_name = ? AND trials.state = 'WAITING' AND attributes.key = 'fixed_params' ORDER BY trials.number
"""
ENDS = {"dropped": "dropped by racing: significantly worse than the best so far", "diverged": "pruned: it diverged"}
Interval = tuple[float, float]


@dataclass(frozen=True)
class StudyState:
    """The state of a study.

    Attributes:
        source: the study's name or file on a command line; empty if it has no file and only its runs are known.
        ended: why a trial has ended without a result, by cell.
        queued: the values of the trials that wait in a search's queue.
        learning: learning curves of the cells in ``learning_metric``; None if there are none.
        left_s: seconds of training left at the pace so far; None if unknown.
    """

    report: StudyReport
    source: str
    ended: Mapping[str, str]
    queued: tuple[str, ...]
    learning: LearningView | None
    learning_metric: str
    left_s: float | None
    num_live: int

    @property
    def command(self) -> list[str]:
        """The ``workbench`` arguments that started the study."""
        return shlex.split(self.report.made_on.command)[1:]

    @property
    def left_text(self) -> str:
        """The time left in words; empty if unknown."""
        if self.left_s is None:
            return ""
        return f"about {duration(self.left_s)} left" + ("" if self.num_live else ", but no run is training")


def read_study(name: str, runs_dir: Path, metric: str = "") -> StudyState:
    """Read the state of a study from its runs. It may take seconds if there are hundreds.

    Args:
        metric: the metric of the learning curves; by default the study's main metric.

    Raises:
        ValueError: no run belongs to the study, or its cells are invalid.
    """
    study = find_study(name, runs_dir)
    source = study.source if study.has_file else ""
    report, storage = report_on(study.study, name, runs_dir, source), default_file(runs_dir, name)
    runs = [one.run for one in counted(runs_of_study(runs_dir, name))]
    states = [one.state for cell in report.table.cells for one in cell.replicates]
    main = report.main.name if report.main else ""
    is_other = metric and metric != main
    return StudyState(
        report=report,
        source=source,
        ended=ended_trials(storage, name),
        queued=tuple(queued_trials(storage, name)),
        learning=learning_of(validation_curves(report.found, metric), metric) if is_other else report.learning,
        learning_metric=metric or main,
        left_s=seconds_left(report, runs),
        num_live=sum(state in TAKES_COMMANDS for state in states),
    )


def ended_trials(file: Path, name: str) -> dict[str, str]:
    """Why a trial has no result, by cell, from the storage's SQLite file; empty if that is missing, locked or damaged.

    If a cell was queued again, its last trial counts.
    """
    about: dict[int, dict[str, str]] = {}
    for number, state, key, value in _query(file, TRIALS, name):
        about.setdefault(number, {"state": state})[key] = str(json.loads(value))
    newest = {row.get("name", f"t{number:04d}"): row for number, row in about.items()}
    return {cell: _reason(row) for cell, row in newest.items() if row["state"] in LOST}


def queued_trials(file: Path, name: str) -> list[str]:
    """The values of the queued trials, as ``KEY=VALUE ...``; the sampler chooses the other values."""
    found = [json.loads(values) for _, values in _query(file, QUEUED, name)]
    return [" ".join(f"{key}={as_text(value)}" for key, value in values.items()) for values in found]


def _query(file: Path, query: str, name: str) -> list[tuple[Any, ...]]:
    if not file.is_file():
        return []
    try:
        uri = f"file:{quote(str(file))}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_TIMEOUT_S)) as connection:
            return connection.execute(query, (name,)).fetchall()
    except sqlite3.Error:  # locked, damaged, or not an Optuna storage: the table then shows the runs alone
        return []


def _reason(row: Mapping[str, str]) -> str:
    outcome = row.get("outcome", row["state"].lower())
    return ENDS.get(outcome, outcome) + (f": {row['reason']}" if "reason" in row else "")


def seconds_left(report: StudyReport, runs: Iterable[RunDirectory]) -> float | None:
    """Seconds for the remaining steps, at the pace of all steps so far.

    The pace divides by the time in which any run trained, so parallel runs count once. Future trials of a search count
    in full, as if racing dropped none.
    """
    replicates = [one for cell in report.table.cells for one in cell.replicates]
    lengths = [one.num_steps for one in replicates if one.num_steps]
    if not lengths:
        return None
    usual = max(lengths)
    over = ("finished", "diverged", "failed", "stopped", "dropped")
    num_left = sum((one.num_steps or usual) - one.step for one in replicates if one.state not in over)
    study = report.study
    if study.search:
        num_left += max(0, study.trials - len(report.table.cells)) * study.seeds * usual
    # The union of intervals, not their sum: runs that train side by side share the same seconds.
    busy_s = covered([span for run in runs if (span := _trained(run))])
    num_done = sum(one.step for one in replicates)
    if num_left == 0 or not busy_s or not num_done:
        return None
    return num_left * busy_s / num_done


def covered(spans: Iterable[Interval]) -> float:
    """The total length of the union of intervals."""
    total, end = 0.0, float("-inf")
    for low, high in sorted(spans):
        total += max(0.0, high - max(low, end))
        end = max(end, high)
    return total


def _trained(run: RunDirectory) -> Interval | None:
    """The interval in which the run trained: it ends at its last event, and its length is the elapsed time."""
    try:
        last = [event for event in last_events(run.events_file) if isinstance(event, StepDone | RunFinished)]
    except ValueError:  # unreadable, which its row in the table shows
        return None
    return (last[-1].time_s - last[-1].elapsed_s, last[-1].time_s) if last else None


def overrides(study: Study, filled: Mapping[str, str]) -> list[str]:
    """``KEY=VALUE`` for each field that was filled in.

    Raises:
        ValueError: all fields are empty, or a value lies outside the search space.
    """
    given = [f"{key}={text}" for key, text in filled.items() if text]
    if not given:
        raise ValueError("enter at least one value; the sampler chooses those left empty")
    make_cell(study, "these values", parse_values(study, given))
    return given


def typed(cell: StudyCell | None, key: str) -> str:
    """A trial's value of a setting as text; empty if it has none."""
    return as_text(cell.values[key]) if cell is not None and key in cell.values else ""
