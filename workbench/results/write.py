"""Writing a study's report: its files and figures."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import unknown
from workbench.files import explained, write_atomically
from workbench.results.export import cells_csv, latex, runs_csv
from workbench.results.markdown import markdown, shown_cells
from workbench.results.report import StudyReport
from workbench.views.metrics import metric_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    # One file per figure, in a format that Markdown can show.
    shown = {path.stem: path.name for path in reversed(written) if path.suffix != ".pdf"}
    in_order = [shown[stem] for stem in dict.fromkeys(path.stem for path in written) if stem in shown]
    texts: dict[str, dict[str, Callable[[], str]]] = {
        "md": {"report.md": lambda: markdown(report, in_order)},
        "csv": {"cells.csv": lambda: cells_csv(report.table), "runs.csv": lambda: runs_csv(report.table)},
        "tex": {"table.tex": lambda: latex(report.table, shown_cells(report))},
    }
    # Figures come first, because the Markdown links them.
    for name in TEXT_FORMATS:
        for file, text in texts[name].items() if name in formats else ():
            write_atomically(folder / file, text())
            written.append(folder / file)
    return written


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
