"""``StudyExplorer``: a study's results as figures and tables."""

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from workbench.config.study import Study
from workbench.errors import unknown
from workbench.figures.search import effects_figure, forecast_figure, parallel_figure, pareto_figure
from workbench.figures.study import differences_figure, study_figure
from workbench.figures.training import learning_figure
from workbench.notebook.controls import buttons, row
from workbench.notebook.explorer import Explorer, default_runs_dir
from workbench.notebook.study_table import read_table
from workbench.resources import find_resource
from workbench.runs.studies import find_study, load_study, studies
from workbench.views.metrics import MetricLabel
from workbench.views.study import Limits, Parallel, Point, StudyCell, StudyTable, parallel, pareto

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from workbench.results.report import StudyReport

SHOWN = ("cells", "differences", "parallel", "trade-off", "effects", "learning", "forecast")
RESULTS = Path("studies") / "results"


class StudyExplorer(Explorer):
    """A study's results, from the user's runs or else from the results shipped with the package.

    Args:
        source: a study's name or file; a folder written by ``workbench report``; or a :class:`StudyTable`.
        show: "cells" (our results above the paper's), "differences", "parallel" (coordinates with brushes),
            "trade-off" (of two metrics); with runs also "effects", "learning" and "forecast" (rank correlation of the
            cells at each step with the final ranking).
        runs_dir: the runs folder; ``runs`` if not given.

    Attributes:
        selection: the cells within the brushes, with their settings and means.

    Raises:
        ValueError: an unknown figure.
    """

    def __init__(self, source: str | Path | StudyTable, show: str = "cells", runs_dir: Path | None = None) -> None:
        super().__init__()
        if show not in SHOWN:
            raise unknown("figure", show, SHOWN)
        self._source, self._runs_dir, self._wanted = source, runs_dir, show
        self._table: StudyTable | None = None
        self.report: StudyReport | None = None
        self.brushes: dict[str, Any] = {}
        self._figures: dict[str, Callable[[], Figure]] = {}
        self.show = buttons(SHOWN, show)
        self.color = widgets.Dropdown(options=[("", "")], description="color by")
        self.upward = widgets.Dropdown(options=[("", "")], description="more of")
        self.across = widgets.Dropdown(options=[("", "")], description="against")
        self._brushing, self._trading = row(), row(self.upward, self.across)
        self.controls.children = (self.show, self._brushing, self._trading)
        self.watch(self.show, self.color, self.upward, self.across)
        self.refresh()

    def load(self) -> None:
        self._table, self.report = self._read()
        self._set_figures()
        view = parallel(self.table)
        names = [axis.name for axis in view.axes]
        metrics = [(metric.title, metric.name) for metric in self._metrics]
        for control, options, place in (
            (self.color, [(axis.label, axis.name) for axis in view.axes], names.index(self._metrics[0].name)),
            (self.upward, metrics, 0),
            (self.across, metrics, min(1, len(metrics) - 1)),
        ):
            before = control.value
            control.options = options
            control.value = before if before in dict(options).values() else options[place][1]
        if list(self.brushes) != names:
            self._set_brushes(view)

    def draw(self) -> "Figure":
        shown = self.show.value
        self._brushing.layout.display = "flex" if shown == "parallel" else "none"
        self._trading.layout.display = "flex" if shown == "trade-off" else "none"
        finished = sum(len(cell.finished) for cell in self.table.cells)
        wanted = sum(len(cell.replicates) for cell in self.table.cells)
        source = "" if self.report else " (reported results)"
        self.note.value = escape(f"{self.table.question} {finished} of {wanted} runs finished{source}.")
        return self._figures[shown]()

    def _set_figures(self) -> None:
        """Offer the figures for which the study has data."""
        table, report = self.table, self.report
        self._figures = {"cells": lambda: study_figure(table)}
        if any(entry.gain for of in table.entries.values() for entry in of.values()):
            self._figures["differences"] = lambda: differences_figure(table)
        self._figures["parallel"] = self._draw_parallel
        if len(self._metrics) > 1:
            self._figures["trade-off"] = lambda: pareto_figure(self.front, self._traded, table.split)
        if report and (main := report.main) and (effects := report.effects.get(main.name)):
            self._figures["effects"] = lambda: effects_figure(effects, main)
        if report and (learning := report.learning):
            self._figures["learning"] = lambda: learning_figure(learning)
        if report and (forecast := report.forecast):
            self._figures["forecast"] = lambda: forecast_figure(forecast)
        if self._wanted not in self._figures:
            why = "it needs runs, and these are reported results" if report is None else "too few finished runs"
            raise ValueError(f"no figure '{self._wanted}' for study '{table.name}': {why}")
        before = self.show.value
        self.show.options = list(self._figures)
        self.show.value = before if before in self._figures else self._wanted

    def _draw_parallel(self) -> "Figure":
        view = parallel(self.table)
        return parallel_figure(view, view.kept_N(self._limits(view)), self.color.value)

    @property
    def table(self) -> StudyTable:
        """The data of the figures."""
        if self._table is None:
            self.check()
        assert self._table is not None
        return self._table

    @property
    def front(self) -> list[Point]:
        """The cells by the two metrics of the trade-off, with the Pareto front marked."""
        metrics = self._traded
        values = {}
        for cell in self.table.cells:
            means = [self.table.entry(cell, metric).mean for metric in metrics]
            known = [mean.mean for mean in means if mean]
            if len(known) == len(means):
                values[cell.name] = known
        return pareto(values, ["minimize" if metric.higher_is_better is False else "maximize" for metric in metrics])

    @property
    def selection(self) -> "list[dict[str, Any]]":
        """The cells within all brushes: name, settings, and the mean of each metric in the unit of its label."""
        self.check()
        view = parallel(self.table)
        kept = dict(zip(view.lines, view.kept_N(self._limits(view)), strict=True))
        return [
            {"cell": cell.name, **cell.values, **self._means(cell)}
            for cell in self.table.cells
            if kept.get(cell.name, False)
        ]

    def to_frame(self) -> "DataFrame":
        """The results as a table: means, differences with intervals and verdicts, and the paper's values."""
        from pandas import DataFrame

        from workbench.results.export import texts

        self.check()
        rows = []
        for cell in self.table.cells:
            for metric in self._metrics:
                entry = self.table.entry(cell, metric)
                if entry.mean:
                    own = texts(self.table, cell, metric)
                    rows.append(
                        {"cell": cell.name, "metric": metric.title, "mean": own["mean"], "95 %": own["95 %"]}
                        | {"difference": own["difference"], "95 % of it": own["95 % of difference"]}
                        | {"verdict": entry.verdict_text, "paper": "" if entry.paper is None else f"{entry.paper:g}"}
                    )
        return DataFrame(rows)

    def _read(self) -> "tuple[StudyTable, StudyReport | None]":
        if isinstance(self._source, StudyTable):
            return self._source, None
        folder = Path(self._source)
        if (folder / "cells.csv").is_file():
            return read_table(folder, _study_of(folder.name)), None
        from workbench.results.report import report_on

        runs_dir = default_runs_dir() if self._runs_dir is None else self._runs_dir
        study = find_study(str(self._source), runs_dir).study
        report = report_on(study, study.name, runs_dir, str(self._source))
        if any(cell.finished for cell in report.table.cells):
            return report.table, report
        if shipped := find_resource(str(RESULTS / study.name / "cells.csv")):
            return read_table(shipped.parent, study), None
        raise ValueError(
            f"study '{study.name}' has no finished run in {runs_dir} and no shipped results: run workbench sweep "
            f"--study {study.name}"
        )

    @property
    def _metrics(self) -> list[MetricLabel]:
        """The metrics that any cell has."""
        cells = self.table.cells
        return [metric for metric in self.table.metrics if any(self.table.entry(cell, metric).mean for cell in cells)]

    @property
    def _traded(self) -> list[MetricLabel]:
        """The two metrics of the trade-off."""
        by_name = {metric.name: metric for metric in self._metrics}
        return [by_name[self.upward.value], by_name[self.across.value]]

    def _means(self, cell: StudyCell) -> Mapping[str, float]:
        means = {metric: self.table.entry(cell, metric).mean for metric in self._metrics}
        return {metric.name: metric.factor * mean.mean for metric, mean in means.items() if mean}

    def _limits(self, view: Parallel) -> Limits:
        """The limits of the brushes that were moved: an untouched brush must not exclude cells without a value."""
        return {
            axis.name: self.brushes[axis.name].value
            for axis in view.axes
            if tuple(self.brushes[axis.name].value) != axis.limits
        }

    def _set_brushes(self, view: Parallel) -> None:
        self.brushes = {}
        for axis in view.axes:
            low, high = axis.limits
            ends: dict[str, Any] = {"value": (low, high), "min": low, "max": high, "step": (high - low) / 100}
            brush = widgets.FloatRangeSlider(**ends, description=axis.label, readout_format="g")
            brush.style.description_width = "150px"
            brush.layout.width = "430px"
            self.brushes[axis.name] = brush
        self.watch(*self.brushes.values())
        self._brushing.children = (self.color, *self.brushes.values())


def _study_of(name: str) -> Study:
    """The study with the name of a report's folder; a placeholder if there is no such study anymore."""
    return load_study(name) if name in studies() else Study(name=name, question=name, cells=[{"name": name}])
