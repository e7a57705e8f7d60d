"""Writing a study's report: Markdown, CSV, LaTeX, figures, and the document of ``--json``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import unknown
from workbench.files import explained, write_atomically
from workbench.report.markdown import markdown, shown_cells
from workbench.report.study import StudyReport
from workbench.report.tables import cells_csv, latex, runs_csv, spread
from workbench.report.words import findings
from workbench.statistics.rank_agreement import Agreement
from workbench.views.metrics import metric_label
from workbench.views.study import Entry, StudyCell

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


TEXT_FORMATS = ("md", "csv", "tex")
FIGURE_FORMATS = ("png", "svg", "pdf")
OTHER_OUT = "name another with --out DIR"
DEFAULT_FORMATS = ("md", "csv", "tex", "png")


def check_formats(formats: Sequence[str]) -> None:
    """Check the names of formats.

    Raises:
        ValueError: an unknown format.
    """
    for name in formats:
        if name not in (*TEXT_FORMATS, *FIGURE_FORMATS):
            raise unknown("format", name, (*TEXT_FORMATS, *FIGURE_FORMATS))


def write_report(report: StudyReport, folder: Path, formats: Sequence[str] = DEFAULT_FORMATS) -> list[Path]:
    """Write ``report.md``, ``cells.csv``, ``runs.csv``, ``table.tex`` and figures; the same runs give the same bytes.

    Files of an earlier report are replaced atomically, one by one.

    Raises:
        ValueError: an unknown format, or the folder cannot be created or written to.
    """
    check_formats(formats)
    with explained(folder, OTHER_OUT):
        folder.mkdir(parents=True, exist_ok=True)
        return _write(report, folder, formats)


def _write(report: StudyReport, folder: Path, formats: Sequence[str]) -> list[Path]:
    written = list(_write_figures(report, folder, [name for name in FIGURE_FORMATS if name in formats]))
    shown = _shown([path.name for path in written])
    texts: dict[str, dict[str, Callable[[], str]]] = {
        "md": {"report.md": lambda: markdown(report, shown)},
        "csv": {"cells.csv": lambda: cells_csv(report.table), "runs.csv": lambda: runs_csv(report.table)},
        "tex": {"table.tex": lambda: latex(report.table, shown_cells(report))},
    }
    for name in TEXT_FORMATS:
        for file, text in texts[name].items() if name in formats else ():
            write_atomically(folder / file, text())
            written.append(folder / file)
    return written


def _shown(names: Sequence[str]) -> list[str]:
    """One file per figure, in a format that Markdown can show."""
    found = {name.rpartition(".")[0]: name for name in reversed(names) if not name.endswith(".pdf")}
    return list(dict.fromkeys(found[stem] for stem in (name.rpartition(".")[0] for name in names) if stem in found))


def _write_figures(report: StudyReport, folder: Path, kinds: Sequence[str]) -> Iterator[Path]:
    from workbench.figures.style import save_figure

    if kinds:
        for name, figure in figures_of(report):
            yield from (save_figure(figure, folder / f"{name}.{kind}", small=True) for kind in kinds)


def figures_of(report: StudyReport) -> "Iterator[tuple[str, Figure]]":
    """The figures with content for this study, by name."""
    from workbench.figures.search import effects_figure, history_figure, importance_figure, pareto_figure
    from workbench.figures.study import differences_figure, study_figure
    from workbench.figures.training import learning_figure

    table, main = report.table, report.main
    if main is None or not any(cell.finished for cell in table.cells):
        return
    if report.study.search:
        objective = metric_label(report.study.objectives[0].metric)
        if any(one.value is not None for one in report.tried):
            yield "history", history_figure(report.tried, objective)
        if report.importance.shares:
            yield "importance", importance_figure(report.importance.shares, report.importance.note)
    else:
        yield "cells", study_figure(table)
        if any(entry.gain for of in table.entries.values() for entry in of.values()):
            yield "differences", differences_figure(table)
    if effects := report.effects.get(main.name):
        yield "effects", effects_figure(effects, main)
    if report.front:
        yield "pareto", pareto_figure(report.front, [metric_label(one.metric) for one in report.study.objectives])
    if report.learning:
        yield "learning", learning_figure(report.learning)
