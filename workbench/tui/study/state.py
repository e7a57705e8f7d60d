"""A trial that a person adds to a search: its values, typed and checked at once."""

import json
import shlex
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from workbench.config.cells import as_text, make_cell, typed_values
from workbench.config.study import Study
from workbench.events import RunFinished, StepDone
from workbench.formatting import duration
from workbench.report.collect import collect
from workbench.report.comparison import learning_of, validation_curves
from workbench.report.study import StudyReport, report_on
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import TAKES_COMMANDS
from workbench.runs.log import last_events
from workbench.runs.summary import counted, find_study, runs_of_study
from workbench.sweeps.storage import default_file
from workbench.views.curves import LearningView
from workbench.views.study import StudyCell

# A study, followed: its report from the runs folder, what its storage says of trials, and how long the rest will take.
#
# Neither torch nor Optuna is loaded: the report is of run directories, and the storage's file is only looked at.

LOOK_S = 0.5  # to wait for a storage that is being written
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
ENDS = {"dropped": "dropped by racing: credibly worse than the best so far", "diverged": "pruned: it diverged"}
Interval = tuple[float, float]


@dataclass(frozen=True)
class Ended:
    """A trial that the storage has given up, and why."""

    number: int
    cell: str
    why: str


@dataclass(frozen=True)
class StudyState:
    """How a study stands.

    Attributes:
        source: what names it on a command line; empty where its file is not known, and the table is of the runs alone.
        queued: the values of trials that a search was told to try, and that nobody has begun.
        learning: how its cells learn in ``learning_metric``; None where there is nothing to draw.
        left_s: seconds of training left at the pace so far; None where nobody knows.
    """

    report: StudyReport
    source: str
    ended: tuple[Ended, ...]
    queued: tuple[str, ...]
    learning: LearningView | None
    learning_metric: str
    left_s: float | None
    num_live: int

    @property
    def command(self) -> list[str]:
        """The ``workbench`` arguments that made it."""
        return shlex.split(self.report.made_on.command)[1:]

    @property
    def left_text(self) -> str:
        """The forecast in words; empty where there is nothing left, or nothing to go by."""
        if self.left_s is None:
            return ""
        return f"about {duration(self.left_s)} left" + ("" if self.num_live else ", but nothing is being trained")


def read_study(name: str, runs_dir: Path, metric: str = "") -> StudyState:
    """The study under this name, as far as its runs have come. It may take seconds where there are hundreds.

    Args:
        metric: of the learning curves; the one that the study is about if not given.

    Raises:
        ValueError: there is no such run, or its study's cells cannot be.
    """
    study, source = _asked(name, runs_dir)
    report = report_on(study, name, runs_dir, source)
    runs = [one.run for one in counted(runs_of_study(runs_dir, name))]
    states = [one.state for cell in report.table.cells for one in cell.replicates]
    main = report.main.name if report.main else ""
    is_other = metric and metric != main
    return StudyState(
        report=report,
        source=source,
        ended=tuple(ended_trials(default_file(runs_dir, name), name)),
        queued=tuple(queued_trials(default_file(runs_dir, name), name)),
        learning=_learning(study, name, runs_dir, metric) if is_other else report.learning,
        learning_metric=metric or main,
        left_s=seconds_left(report, runs),
        num_live=sum(state in TAKES_COMMANDS for state in states),
    )


def _learning(study: Study, name: str, runs_dir: Path, metric: str) -> LearningView | None:
    return learning_of(validation_curves(collect(study, name, runs_dir), metric), metric)


def _asked(name: str, runs_dir: Path) -> tuple[Study, str]:
    """The study, and what names it on a command line, see :class:`Studied`."""
    found = find_study(name, runs_dir)
    return found.study, found.source if found.has_file else ""


def ended_trials(file: Path, name: str) -> list[Ended]:
    """The trials without a result, from the storage's SQLite file; none where that is not to be read now.

    Of a cell that was queued anew the last trial counts.
    """
    about: dict[int, dict[str, str]] = {}
    for number, state, key, value in _ask(file, TRIALS, name):
        about.setdefault(number, {"state": state})[key] = str(json.loads(value))
    newest = {said.get("name", f"t{number:04d}"): (number, said) for number, said in about.items()}
    return [Ended(number, name, _why(said)) for name, (number, said) in newest.items() if said["state"] in LOST]


def queued_trials(file: Path, name: str) -> list[str]:
    """The values of the trials that wait to be tried, as ``KEY=VALUE``; what is not named the sampler chooses."""
    found = [json.loads(values) for _, values in _ask(file, QUEUED, name)]
    return [" ".join(f"{key}={as_text(value)}" for key, value in values.items()) for values in found]


def _ask(file: Path, query: str, name: str) -> list[tuple[Any, ...]]:
    if not file.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=LOOK_S)) as connection:
            return connection.execute(query, (name,)).fetchall()
    except sqlite3.Error:
        return []


def _why(said: Mapping[str, str]) -> str:
    outcome = said.get("outcome", said["state"].lower())
    return ENDS.get(outcome, outcome) + (f": {said['reason']}" if "reason" in said else "")


def seconds_left(report: StudyReport, runs: Iterable[RunDirectory]) -> float | None:
    """Steps that are still to be trained, at the pace of all steps so far, those of runs side by side included.

    A search's trials that are still to come count as if none of them were dropped.
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
    busy_s = covered([span for run in runs if (span := _trained(run))])
    num_done = sum(one.step for one in replicates)
    if num_left == 0 or not busy_s or not num_done:
        return None
    return num_left * busy_s / num_done


def covered(spans: Iterable[Interval]) -> float:
    """The length of what intervals cover together."""
    total, end = 0.0, float("-inf")
    for low, high in sorted(spans):
        total += max(0.0, high - max(low, end))
        end = max(end, high)
    return total


def _trained(run: RunDirectory) -> Interval | None:
    """When the run was training: from what it measured last back by as long as it says that it took."""
    try:
        last = [event for event in last_events(run.events_file) if isinstance(event, StepDone | RunFinished)]
    except ValueError:  # it cannot be read, which its row says
        return None
    return (last[-1].time_s - last[-1].elapsed_s, last[-1].time_s) if last else None


def overrides(study: Study, filled: Mapping[str, str]) -> list[str]:
    """``KEY=VALUE`` of what was filled in, by the settings that are searched.

    Raises:
        ValueError: nothing was, or a value that the search would not try.
    """
    given = [f"{key}={text}" for key, text in filled.items() if text]
    if not given:
        raise ValueError("give at least one value; those that are left empty the sampler chooses")
    make_cell(study, "these values", typed_values(study, given))
    return given


def typed(cell: StudyCell | None, key: str) -> str:
    """What a trial had of a setting, as one would type it; empty where there is none."""
    return as_text(cell.values[key]) if cell is not None and key in cell.values else ""
