"""A study's report as plain data, for --json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from workbench.report.study import StudyReport
from workbench.report.tables import spread
from workbench.report.words import findings
from workbench.statistics.agreement import Agreement
from workbench.views.study import Entry, StudyCell


def document(report: StudyReport, files: Sequence[str] = ()) -> dict[str, Any]:
    """The document; figures are in the units in which runs log them, the paper's as it prints them."""
    table = report.table
    return {
        "study": table.name,
        "question": table.question,
        "baseline": table.baseline,
        "best": report.best,
        "split": table.split,
        "cells": [_cell(cell, table.entries[cell.name]) for cell in table.cells],
        "paper": table.paper_source,
        "agreement": {metric: asdict(agreed) for metric, agreed in report.agreement.items()},
        "detectable": {
            metric: told.detectable if told.spread.df and told.num_seeds else None
            for metric, told in report.to_baseline.items()
        },
        "rank_forecast": {str(step): _tau(agreed) for step, agreed in report.forecast.items()},
        "effects": {
            metric: [{"setting": one.setting, "value": one.level, **one.gain.to_json()} for one in effects]
            for metric, effects in report.effects.items()
        },
        "importance": {
            "shares": dict(report.importance.shares),
            "num_trials": report.importance.num_trials,
            "is_guess": report.importance.is_guess,
        },
        "front": [point.cell for point in report.front if point.on_front],
        "history": [asdict(one) for one in report.tried],
        "confirmed": document(report.confirmed) if report.confirmed else None,
        "findings": findings(report),
        "made_on": report.made_on.to_json(),
        "files": list(files),
    }


def _cell(cell: StudyCell, entries: Mapping[str, Entry]) -> dict[str, Any]:
    return {
        "name": cell.name,
        "values": dict(cell.values),
        "state": cell.state,
        "runs": [one.run for one in cell.replicates if one.run],
        "seeds": {str(one.seed): one.state for one in cell.replicates},
        "metrics": {
            metric: {**entry.mean.to_json(), "sd": spread(entry.mean)}
            for metric, entry in entries.items()
            if entry.mean
        },
        "gains": {
            metric: {**entry.gain.to_json(), "p_holm": entry.p_value, "verdict": entry.verdict}
            for metric, entry in entries.items()
            if entry.gain
        },
        "paper": {metric: entry.paper for metric, entry in entries.items() if entry.paper is not None},
    }


def _tau(agreed: Agreement) -> float:
    return agreed.tau
