"""Reading a study's table back from ``cells.csv`` and ``runs.csv`` of a report's folder."""

import csv
import math
from pathlib import Path
from typing import Any

from workbench.config.study import Study
from workbench.results.export import CELLS_HEAD, RUNS_HEAD
from workbench.statistics.intervals import Estimate, Gain
from workbench.views.metrics import MetricLabel, metric_label
from workbench.views.study import Entry, Replicate, StudyCell, StudyTable

Line = dict[str, str]
UNKNOWN = (math.nan, -math.inf, math.inf)  # mean, low and high of an empty field


def read_table(folder: Path, study: Study) -> StudyTable:
    """The table as reported, with the digits in the files and without validation metrics.

    Raises:
        ValueError: a file is missing or malformed.
    """
    # Earlier reports have no seeds_needed.
    cells, runs = _read(folder / "cells.csv", CELLS_HEAD[:-1]), _read(folder / "runs.csv", RUNS_HEAD)
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
    found = {name: _cell(name, runs) for name in dict.fromkeys(line["cell"] for line in cells)}
    entries: dict[str, dict[str, Entry]] = {name: {} for name in found}
    for line in cells:
        metric = line["metric"]
        theirs = found[study.baseline].by_seed(metric) if study.baseline in found else {}
        entries[line["cell"]][metric] = _entry(line, metric_label(metric), found[line["cell"]].by_seed(metric), theirs)
    source = study.paper.source if study.paper else ""
    cells_found = tuple(found.values())
    return StudyTable(study.name, study.question, study.baseline, "test", metrics, cells_found, entries, source)


def _cell(name: str, runs: list[Line]) -> StudyCell:
    mine = [line for line in runs if line["cell"] == name]
    first = mine[0]
    # After the fixed columns: settings, whose dotted names contain a point, and metrics, whose names do not.
    others = list(first)[len(RUNS_HEAD) :]
    settings = {key: _plain(first[key]) for key in others if "." in key and first[key] != ""}
    replicates = tuple(
        Replicate(
            seed=int(line["seed"]),
            state=line["state"],
            run=line["run"],
            step=int(line["step"]),
            num_steps=int(line["num_steps"]),
            reason=line["reason"],
            metrics={key: float(line[key]) for key in others if "." not in key and line[key] != ""},
        )
        for line in mine
    )
    return StudyCell(name, settings, replicates, int(first["trial"]) if first["trial"] else None)


def _entry(line: Line, metric: MetricLabel, own: dict[int, float], baseline: dict[int, float]) -> Entry:
    """A cell's metric; the values of seeds, in the units of the log, are those of the runs."""

    def bounds(middle: str, low: str, high: str) -> tuple[float, float, float]:
        """Three columns in the stored unit; an unknown bound is infinite."""
        found = (_number(line[middle]), _number(line[low]), _number(line[high]))
        mean, least, most = (end if known is None else known for known, end in zip(found, UNKNOWN, strict=True))
        return mean / metric.factor, least / metric.factor, most / metric.factor

    mean, gain = bounds("mean", "low", "high"), bounds("difference", "difference_low", "difference_high")
    gained = tuple(own[seed] - baseline[seed] for seed in own if seed in baseline)
    return Entry(
        mean=Estimate(*mean, tuple(own.values()), "seeds") if line["mean"] else None,
        gain=Gain(*gain, gained, "seeds") if line["difference"] else None,
        p_value=_number(line["p_holm"]),
        verdict=line["verdict"],
        paper=_number(line["paper"]),
        paper_gain=_number(line["paper_difference"]),
        seeds_needed=int(line["seeds_needed"]) if line.get("seeds_needed") else None if "seeds_needed" in line else 0,
    )


def _number(text: str) -> float | None:
    return float(text) if text else None


def _plain(text: str) -> Any:
    """A setting's value: a number if it can be parsed as one."""
    try:
        return float(text) if "." in text or "e" in text.lower() else int(text)
    except ValueError:
        return text
