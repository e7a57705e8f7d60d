"""Reading a study's table back from ``cells.csv`` and ``runs.csv`` of a report's folder."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workbench.config.study import Study
from workbench.results.export import CELLS_HEAD, RUNS_HEAD
from workbench.statistics.intervals import Estimate, Gain
from workbench.views.metrics import MetricLabel, metric_label
from workbench.views.study import Entry, Replicate, StudyCell, StudyTable

Line = dict[str, str]


def read_table(folder: Path, study: Study) -> StudyTable:
    """The table as reported, with the digits in the files and without validation metrics.

    Raises:
        ValueError: a file is missing or malformed.
    """
    cells, runs = _read(folder / "cells.csv", CELLS_HEAD), _read(folder / "runs.csv", RUNS_HEAD)
    try:
        return _table(cells, runs, study)
    except (KeyError, ValueError) as error:
        raise ValueError(f"cannot read the report in {folder} ({error}): write it again with `report`") from None


def _read(file: Path, head: tuple[str, ...]) -> list[Line]:
    try:
        lines = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {file}: {getattr(error, 'strerror', '') or 'not UTF-8 text'}") from None
    if not lines or not set(head) <= lines[0].keys():
        missing = ", ".join(column for column in head if not lines or column not in lines[0])
        raise ValueError(f"{file} is not a table of a report: columns missing: {missing}")
    return lines


def _table(cells: list[Line], runs: list[Line], study: Study) -> StudyTable:
    metrics = tuple(metric_label(name) for name in dict.fromkeys(line["metric"] for line in cells))
    found = tuple(_cell(name, runs) for name in dict.fromkeys(line["cell"] for line in cells))
    values = {cell.name: {metric.name: cell.by_seed(metric.name) for metric in metrics} for cell in found}
    entries: dict[str, dict[str, Entry]] = {}
    for line in cells:
        entry = _entry(line, metric_label(line["metric"]), values[line["cell"]], values.get(study.baseline, {}))
        entries.setdefault(line["cell"], {})[line["metric"]] = entry
    source = study.paper.source if study.paper else ""
    return StudyTable(study.name, study.question, study.baseline, "test", metrics, found, entries, source)


def _cell(name: str, runs: list[Line]) -> StudyCell:
    mine = [line for line in runs if line["cell"] == name]
    # Behind the fixed columns: settings, whose dotted names contain a point, and metrics, whose names do not.
    names = list(mine[0])
    own = [key for key in names[len(RUNS_HEAD) :] if "." in key]
    settings = {key: _plain(mine[0][key]) for key in own if mine[0][key] != ""}
    replicates = tuple(
        Replicate(
            seed=int(line["seed"]),
            state=line["state"],
            run=line["run"],
            step=int(line["step"]),
            num_steps=int(line["num_steps"]),
            reason=line["reason"],
            metrics={key: float(line[key]) for key in names[len(RUNS_HEAD) :] if key not in own and line[key] != ""},
        )
        for line in mine
    )
    trial = mine[0]["trial"]
    return StudyCell(name, settings, replicates, int(trial) if trial else None)


def _entry(
    line: Line, metric: MetricLabel, values: Mapping[str, dict[int, float]], baseline: Mapping[str, dict[int, float]]
) -> Entry:
    own, theirs = values[metric.name], baseline.get(metric.name, {})
    gained = tuple(own[seed] - theirs[seed] for seed in own if seed in theirs)
    mean = _bounds(line, ("mean", "low", "high"), metric.factor)
    gain = _bounds(line, ("difference", "difference_low", "difference_high"), metric.factor)
    return Entry(
        mean=Estimate(*mean, tuple(own.values()), "seeds") if mean else None,
        gain=Gain(*gain, gained, "seeds") if gain else None,
        p_value=_number(line["p_holm"]),
        verdict=line["verdict"],
        paper=_number(line["paper"]),
        paper_gain=_number(line["paper_difference"]),
    )


def _bounds(line: Line, columns: tuple[str, str, str], factor: float) -> tuple[float, float, float] | None:
    """The three columns in the stored unit; an unknown bound is infinite; None without a mean."""
    middle, low, high = (_number(line[column]) for column in columns)
    if middle is None:
        return None
    bounds = np.array([middle, -math.inf if low is None else low, math.inf if high is None else high]) / factor
    return float(bounds[0]), float(bounds[1]), float(bounds[2])


def _number(text: str) -> float | None:
    return float(text) if text else None


def _plain(text: str) -> Any:
    """A setting's value: a number if it can be parsed as one."""
    try:
        return float(text) if "." in text or "e" in text.lower() else int(text)
    except ValueError:
        return text
