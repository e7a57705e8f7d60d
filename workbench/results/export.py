"""A study's table as text in columns, CSV, LaTeX and JSON."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import stdev
from typing import Any

from workbench.config.cells import as_text
from workbench.errors import visible
from workbench.formatting import to_csv
from workbench.results.report import StudyReport
from workbench.results.words import findings
from workbench.statistics.intervals import Estimate
from workbench.statistics.power import MOST_SEEDS
from workbench.views.comparison import NOTHING
from workbench.views.metrics import MetricLabel
from workbench.views.study import Entry, StudyCell, StudyTable, paper_in_our_unit

COLUMNS = (
    *("cell", "seeds", "mean", "sd", "95 %", "difference", "95 % of difference", "verdict"),
    *("paper", "paper's difference"),
)
ALWAYS = ("cell", "seeds", "mean", "sd")


def texts(table: StudyTable, cell: StudyCell, metric: MetricLabel) -> dict[str, str]:
    """A cell's row in the table of one metric, by column; unknown values are empty."""
    entry = table.entry(cell, metric)
    # Without a value: the cell's state, or a dash if the metric does not apply.
    nothing = NOTHING if cell.state == "finished" else cell.state
    sd = spread(entry.mean)
    return {
        "cell": cell.name,
        "seeds": f"{len(entry.mean.per_seed) if entry.mean else 0} of {len(cell.replicates)}",
        "mean": metric.number(entry.mean.mean) if entry.mean else nothing,
        "sd": "" if sd is None else metric.number(sd),
        "95 %": interval(metric, entry.mean),
        "difference": metric.number(entry.gain.mean, signed=True) if entry.gain else "",
        "95 % of difference": interval(metric, entry.gain, signed=True),
        "verdict": entry.verdict_text,
        "paper": "" if entry.paper is None else paper_in_our_unit(metric, entry.paper),
        "paper's difference": (
            "" if entry.paper_gain is None else metric.number(entry.paper_gain / metric.factor, signed=True)
        ),
    }


def grid(
    table: StudyTable,
    metric: MetricLabel,
    cells: Sequence[StudyCell],
    columns: Sequence[str] = COLUMNS,
) -> tuple[list[str], list[list[str]]]:
    """(headings, one row per cell) of one metric, without empty columns; ``columns`` as in :func:`texts`."""
    rows = [texts(table, cell, metric) for cell in cells]
    shown = [column for column in columns if column in ALWAYS or any(row[column] for row in rows)]
    headings = {"cell": table.setting if table.levels else "cell", "mean": metric.title, "95 % of difference": "95 %"}
    return [headings.get(column, column) for column in shown], [[row[column] for column in shown] for row in rows]


def spread(found: Estimate | None) -> float | None:
    """Standard deviation over seeds; None for fewer than two."""
    return stdev(found.per_seed) if found and len(found.per_seed) > 1 else None


def interval(metric: MetricLabel, found: Estimate | None, *, signed: bool = False) -> str:
    """The bounds as text, see :meth:`MetricLabel.interval`; empty if unknown."""
    return "" if found is None else metric.interval(found.low, found.high, signed=signed)


CELLS_HEAD = (
    "cell", "metric", "unit", "num_seeds", "mean", "sd", "low", "high", "difference", "difference_low",
    "difference_high", "p_holm", "verdict", "paper", "paper_difference", "state", "seeds_needed",
)  # fmt: skip
RUNS_HEAD = ("run", "cell", "trial", "seed", "state", "step", "num_steps", "reason")


def cells_csv(table: StudyTable) -> str:
    """One line per cell and metric, in the given unit; unknown values are empty."""
    lines: list[list[object]] = []
    for cell in table.cells:
        for metric in table.metrics:
            entry = table.entry(cell, metric)
            mean, gain = entry.mean, entry.gain
            ours = (mean.mean, spread(mean), mean.low, mean.high) if mean else (None,) * 4
            gained = (gain.mean, gain.low, gain.high) if gain else (None,) * 3
            scaled = [
                "" if value is None or not math.isfinite(value) else f"{value * metric.factor:.6g}"
                for value in (*ours, *gained)
            ]
            num_seeds = len(mean.per_seed) if mean else 0
            p_value = "" if entry.p_value is None else f"{entry.p_value:.4g}"
            paper = (_plain(entry.paper), _plain(entry.paper_gain))
            named = (cell.name, metric.name, metric.unit, num_seeds)
            needed = "" if entry.seeds_needed is None else entry.seeds_needed
            lines.append([*named, *scaled, p_value, entry.verdict, *paper, cell.state, needed])
    return to_csv(CELLS_HEAD, lines)


def runs_csv(table: StudyTable) -> str:
    """One line per run, with its settings and metrics in the units of the log."""
    settings = list(dict.fromkeys(key for cell in table.cells for key in cell.values))
    # Settings have a point in their names and metrics have none: the notebook tells the columns apart by it.
    names = sorted({name for cell in table.cells for one in cell.replicates for name in one.metrics})
    lines: list[list[object]] = []
    for cell in table.cells:
        values = [as_text(cell.values[key]) if key in cell.values else "" for key in settings]
        for one in cell.replicates:
            about = (one.run, cell.name, cell.trial, one.seed, one.state, one.step, one.num_steps, one.reason)
            lines.append([*about, *values, *(one.metrics.get(name, "") for name in names)])
    return to_csv((*RUNS_HEAD, *settings, *names), lines)


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "→": r"$\to$", "≥": r"$\ge$", "λ": r"$\lambda$",
    "τ": r"$\tau$", "\N{MINUS SIGN}": "$-$", "\N{EN DASH}": "--", "×": r"$\times$", "±": r"$\pm$", "<": "$<$",
    ">": "$>$", "≈": r"$\approx$", "|": r"\textbar{}",
}  # fmt: skip
MOST_LATEX_METRICS = 3
LATEX_VERDICTS = {
    "better": r"$^{+}$",
    "worse": r"$^{-}$",
    "higher": r"$^{\uparrow}$",
    "lower": r"$^{\downarrow}$",
    "equivalent": r"$^{\approx}$",
}


def latex_escape(text: str) -> str:
    """Text escaped for LaTeX."""
    # One pass: a backslash that an escape writes must not be escaped again.
    return re.sub("|".join(map(re.escape, LATEX_SPECIAL)), lambda found: LATEX_SPECIAL[found[0]], visible(text))


def latex(table: StudyTable, cells: Sequence[StudyCell]) -> str:
    """A ``table`` environment: our mean ± half its interval, next to the paper's figure.

    ``+`` and ``-`` mark cells that differ significantly from the baseline, ``≈`` equivalent ones, and ``?N`` open ones,
    with the number of seeds that would decide.
    """
    metrics = table.metrics[:MOST_LATEX_METRICS]
    twice = {metric.name: table.has_paper(metric) for metric in metrics}
    spans = [2 if twice[metric.name] else 1 for metric in metrics]
    heads = [rf"\multicolumn{{{n}}}{{c}}{{{latex_escape(m.title)}}}" for m, n in zip(metrics, spans, strict=True)]
    rules, column = [], 2
    for span in spans:
        rules.append(rf"\cmidrule(lr){{{column}-{column + span - 1}}}")
        column += span
    unders = [word for metric in metrics for word in (("ours", "paper") if twice[metric.name] else ("ours",))]
    lines = [
        r"% \usepackage{booktabs} in the preamble",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{latex_escape(_latex_caption(table))}}}",
        rf"  \label{{tab:{re.sub(r'[^A-Za-z0-9]+', '-', table.name)}}}",
        rf"  \begin{{tabular}}{{l{'c' * sum(spans)}}}",
        r"    \toprule",
        f"    {' & '.join(['', *heads]).lstrip()} \\\\",
        f"    {' '.join(rules)}",
        f"    {' & '.join([latex_escape(table.setting if table.levels else 'cell'), *unders])} \\\\",
        r"    \midrule",
        *(f"    {' & '.join(_latex_row(table, cell, metrics, twice))} \\\\" for cell in cells),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_caption(table: StudyTable) -> str:
    compared = (
        f" Marked with + or \N{MINUS SIGN}: better or worse than {table.baseline}, paired by seed, Holm-corrected at "
        "0.05; ≈: equivalent within the margin; ? and a number: open, with the seeds that would decide."
        if table.baseline
        else ""
    )
    paper = f" Paper: {table.paper_source}." if table.paper_source else ""
    ours = f" Ours: {table.split} pairs, mean ± half the 95 % interval over seeds and pairs."
    return table.question + ours + compared + paper


def _latex_row(table: StudyTable, cell: StudyCell, metrics: Sequence[MetricLabel], twice: dict[str, bool]) -> list[str]:
    found = [latex_escape(cell.name)]
    for metric in metrics:
        entry = table.entry(cell, metric)
        found.append(_latex_mean(metric, entry.mean, cell.state) + _latex_verdict(entry))
        if twice[metric.name]:
            found.append("--" if entry.paper is None else latex_escape(paper_in_our_unit(metric, entry.paper)))
    return found


def _latex_verdict(entry: Entry) -> str:
    if entry.verdict != "open":
        return LATEX_VERDICTS.get(entry.verdict, "")
    return rf"$^{{?{entry.seeds_needed or f'>{MOST_SEEDS}'}}}$"


def _latex_mean(metric: MetricLabel, mean: Estimate | None, state: str) -> str:
    if mean is None:
        return rf"\textit{{{latex_escape(state)}}}"
    half = (mean.high - mean.low) / 2
    spread = rf" $\pm$ {metric.number(half)}" if math.isfinite(half) else ""
    return latex_escape(metric.number(mean.mean)) + spread


def document(report: StudyReport, files: Sequence[str] = ()) -> dict[str, Any]:
    """The document of ``--json``; values in the units of the logs, the paper's as printed."""
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
            metric: compared.detectable if compared.spread.df and compared.num_seeds else None
            for metric, compared in report.to_baseline.items()
        },
        "rank_forecast": {str(step): agreed.tau for step, agreed in report.forecast.items()},
        "effects": {
            metric: [{"setting": one.setting, "value": one.level, **one.gain.to_json()} for one in effects]
            for metric, effects in report.effects.items()
        },
        "importance": {
            "shares": dict(report.importance.shares),
            "num_trials": report.importance.num_trials,
            "is_guess": report.importance.is_guess,
        },
        "interactions": [
            {"settings": [first, second], "share": one.share, "together": one.together, "p_holm": one.p_value}
            for first, second, one in report.interactions
        ],
        "longer": [document(stage) for stage in report.stages],
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
            metric: {
                **entry.gain.to_json(),
                **{"p_holm": entry.p_value, "verdict": entry.verdict, "seeds_needed": entry.seeds_needed},
            }
            for metric, entry in entries.items()
            if entry.gain
        },
        "paper": {metric: entry.paper for metric, entry in entries.items() if entry.paper is not None},
    }
