"""A study's table in LaTeX, with booktabs' rules."""

import math
import re
from collections.abc import Sequence

from workbench.statistics.intervals import Estimate
from workbench.terminal import visible
from workbench.views.metrics import MetricLabel
from workbench.views.study import StudyCell, StudyTable, paper_in_our_unit

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "→": r"$\to$", "≥": r"$\ge$", "λ": r"$\lambda$",
    "τ": r"$\tau$", "\N{MINUS SIGN}": "$-$", "\N{EN DASH}": "--", "×": r"$\times$", "±": r"$\pm$", "<": "$<$",
    ">": "$>$", "|": r"\textbar{}",
}  # fmt: skip
MOST_METRICS = 3
VERDICTS = {"better": r"$^{+}$", "worse": r"$^{-}$", "higher": r"$^{\uparrow}$", "lower": r"$^{\downarrow}$"}


def escape(text: str) -> str:
    """Text escaped for LaTeX."""
    return re.sub("|".join(map(re.escape, SPECIAL)), lambda found: SPECIAL[found[0]], visible(text))


def latex(table: StudyTable, cells: Sequence[StudyCell]) -> str:
    """A ``table`` environment: our mean ± half its interval, next to the paper's figure.

    ``+`` and ``-`` mark cells that differ significantly from the baseline.
    """
    metrics = table.metrics[:MOST_METRICS]
    twice = {metric.name: table.has_paper(metric) for metric in metrics}
    spans = [2 if twice[metric.name] else 1 for metric in metrics]
    heads = [rf"\multicolumn{{{n}}}{{c}}{{{escape(m.title)}}}" for m, n in zip(metrics, spans, strict=True)]
    rules, place = [], 2
    for span in spans:
        rules.append(rf"\cmidrule(lr){{{place}-{place + span - 1}}}")
        place += span
    unders = [word for metric in metrics for word in (("ours", "paper") if twice[metric.name] else ("ours",))]
    lines = [
        r"% \usepackage{booktabs} in the preamble",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escape(_caption(table))}}}",
        rf"  \label{{tab:{re.sub(r'[^A-Za-z0-9]+', '-', table.name)}}}",
        rf"  \begin{{tabular}}{{l{'c' * sum(spans)}}}",
        r"    \toprule",
        f"    {' & '.join(['', *heads]).lstrip()} \\\\",
        f"    {' '.join(rules)}",
        f"    {' & '.join([escape(table.setting if table.levels else 'cell'), *unders])} \\\\",
        r"    \midrule",
        *(f"    {' & '.join(_row(table, cell, metrics, twice))} \\\\" for cell in cells),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _caption(table: StudyTable) -> str:
    compared = (
        f" Marked with + or \N{MINUS SIGN}: better or worse than {table.baseline}, paired by seed, Holm-corrected at "
        "0.05."
        if table.baseline
        else ""
    )
    paper = f" Paper: {table.paper_source}." if table.paper_source else ""
    ours = f" Ours: {table.split} pairs, mean ± half the 95 % interval over seeds and pairs."
    return table.question + ours + compared + paper


def _row(table: StudyTable, cell: StudyCell, metrics: Sequence[MetricLabel], twice: dict[str, bool]) -> list[str]:
    found = [escape(cell.name)]
    for metric in metrics:
        entry = table.entry(cell, metric)
        found.append(_ours(metric, entry.mean, cell.state) + VERDICTS.get(entry.verdict, ""))
        if twice[metric.name]:
            found.append("--" if entry.paper is None else escape(paper_in_our_unit(metric, entry.paper)))
    return found


def _ours(metric: MetricLabel, mean: Estimate | None, state: str) -> str:
    if mean is None:
        return rf"\textit{{{escape(state)}}}"
    half = (mean.high - mean.low) / 2
    spread = rf" $\pm$ {metric.number(half)}" if math.isfinite(half) else ""
    return escape(metric.number(mean.mean)) + spread
