"""A study's report as plain data: the table and what goes beyond it, computed from its runs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from workbench.config.study import Study
from workbench.results.analysis import (
    Importance,
    agreement_with_paper,
    effects_of,
    front_of,
    importance,
    interactions_of,
    learning_of,
    rank_forecast,
    validation_curves,
)
from workbench.results.facts import Facts, facts
from workbench.results.table import (
    COSTS,
    SHOWN,
    Collected,
    Interpretation,
    collect,
    confirmation_name,
    interpret_against,
    study_table,
)
from workbench.runs.studies import as_run, find_study, studies_with_runs
from workbench.statistics.interactions import Interaction
from workbench.statistics.rank_agreement import Agreement
from workbench.statistics.verdict import Effect
from workbench.views.curves import LearningView
from workbench.views.metrics import MetricLabel
from workbench.views.study import Point, SearchPoint, StudyCell, StudyTable, history, shown_metrics

TEACHING = ("similarity_single", "similarity_cross", "cka", "affinity_kl")


@dataclass(frozen=True)
class StudyReport:
    """The content of a report.

    Attributes:
        found: the runs that it was computed from.
        to_baseline, to_best: comparisons by metric; the best is by the first objective on the validation pairs.
        agreement: agreement of our order of the cells with the paper's, by metric.
        forecast: agreement of the order at a training step with the final one, by step, of the first objective.
        effects: main effects by metric, for a grid of several settings.
        front: Pareto front, for a study with several objectives.
        tried: trials of a search, in order.
        interactions: pairs of a search's settings, with the test of their interaction.
        stages: the best configurations of a search at its later lengths, as far as they have started.
        confirmed: the confirmation of a search (best and rivals on held-out seeds), once it has started.
    """

    study: Study
    found: Collected
    table: StudyTable
    best: str
    to_baseline: Mapping[str, Interpretation]
    to_best: Mapping[str, Interpretation]
    agreement: Mapping[str, Agreement]
    forecast: Mapping[int, Agreement]
    effects: Mapping[str, list[Effect]]
    front: Sequence[Point]
    tried: Sequence[SearchPoint]
    learning: LearningView | None
    made_on: Facts
    importance: Importance
    interactions: Sequence[tuple[str, str, Interaction]]
    stages: "tuple[StudyReport, ...]"
    confirmed: "StudyReport | None"

    @property
    def has_runs(self) -> bool:
        return any(one.run for cell in self.table.cells for one in cell.replicates)

    @property
    def main(self) -> MetricLabel | None:
        """The study's main metric: its first objective, or else the first measured metric."""
        labels, wanted = self.table.metrics, self.study.objectives[0].metric
        return next((label for label in labels if label.name == wanted), next(iter(labels), None))


def report_on(study: Study, name: str, runs_dir: Path, source: str = "") -> StudyReport:
    """The report of a study from its runs so far.

    Args:
        name: the name that the runs have, see ``--name``.
        source: the study's name or file as given by the user; default its name.

    Raises:
        ValueError: a cell of the study is invalid, or the folder cannot be read.
    """
    default, study = study, as_run(study, name, runs_dir)
    found = collect(study, name, runs_dir)
    objective, cells = study.objectives[0], found.cells
    drawn = validation_curves(found, objective.metric)
    stages = _stages(study, name, runs_dir)
    # Of a search with several lengths, the best is that of the last one.
    last = stages[-1] if stages and len(stages) == len(study.lengths) - 1 else None
    baseline, best = _baseline(study, cells), (last.best if last else "") or best_cell(study, cells)
    metrics = shown_metrics([*_wanted(study), *_of_suites(cells)], cells)
    compare = partial(interpret_against, metrics, cells, margin=study.margin, sequential=study.is_sequential)
    to_baseline = compare(baseline)
    return StudyReport(
        study=study,
        found=found,
        table=study_table(study, name, cells, found.split, baseline, metrics, to_baseline),
        best=best,
        to_baseline=to_baseline,
        to_best=compare(best),
        agreement=agreement_with_paper(study, metrics, cells),
        forecast=rank_forecast(drawn, objective.metric),
        effects=effects_of(study, metrics, cells),
        front=front_of(study, cells),
        tried=history(cells, objective.metric, objective.direction) if study.search else (),
        learning=learning_of(drawn, objective.metric),
        made_on=facts(study, name, source or study.name, found.runs, default),
        importance=importance(study, cells),
        interactions=interactions_of(study, cells),
        stages=stages,
        confirmed=_confirmed(study, name, runs_dir),
    )


def _stages(study: Study, name: str, runs_dir: Path) -> tuple[StudyReport, ...]:
    """The reports of a search's later lengths; of several numbers of trials, those of the most."""
    if len(study.lengths) < 2:
        return ()
    matches = [re.fullmatch(rf"{re.escape(name)}-(\d+)-steps-of-(\d+)", one) for one in studies_with_runs(runs_dir)]
    found = [match for match in matches if match]
    most = max((int(match[2]) for match in found), default=0)
    names = sorted((int(match[1]), match[0]) for match in found if int(match[2]) == most)
    return tuple(report_on(find_study(stage, runs_dir).study, stage, runs_dir) for _, stage in names)


def _confirmed(study: Study, name: str, runs_dir: Path) -> StudyReport | None:
    called = confirmation_name(name, runs_dir) if study.confirm_seeds else ""
    # The confirmation uses seeds that chose nothing, after those of the search.
    held_out = {"first_seed": study.first_seed + study.seeds, "seeds": study.confirm_seeds, "confirm_seeds": 0}
    return report_on(study.model_copy(update=held_out), called, runs_dir) if called else None


def best_cell(study: Study, cells: Sequence[StudyCell]) -> str:
    """The cell with the best validation mean among those with every seed and within the budget; empty if there is none.

    Every seed is the study's number of them: where seeds are added until a comparison is settled, at least so many.
    """
    objective = study.objectives[0]
    # Not of fewer seeds: the best mean of few is too good by selection.
    sign = 1 if objective.direction == "maximize" else -1
    known = {
        cell.name: sign * mean
        for cell in cells
        if len(cell.finished) >= study.seeds and _is_within_budget(study, cell)
        if (mean := cell.validation_mean(objective.metric)) is not None
    }
    return max(known, key=lambda name: known[name], default="")


def _is_within_budget(study: Study, cell: StudyCell) -> bool:
    means = {metric: cell.validation_mean(metric) for metric in study.budget}
    return all(mean is not None and mean <= study.budget[metric] for metric, mean in means.items())


def _baseline(study: Study, cells: Sequence[StudyCell]) -> str:
    """The study's baseline; for a warm-started search, its first trial."""
    if study.baseline or not (study.search and study.warm_start):
        return study.baseline
    tried = [cell for cell in cells if cell.trial is not None]
    return min(tried, key=lambda cell: cell.trial or 0).name if tried else ""


def _of_suites(cells: Sequence[StudyCell]) -> list[str]:
    """The metrics that ``evaluate --suite`` measured of these runs."""
    measured = [name for cell in cells for one in cell.finished for name in one.metrics]
    return [name for name in dict.fromkeys(measured) if "/" in name]


def _wanted(study: Study) -> list[str]:
    """The metrics to show: objectives, standard metrics, published ones; costs last."""
    published = [metric for of in study.paper.cells.values() for metric in of] if study.paper else []
    teaching = TEACHING if set(TEACHING) & set(published) else ()
    wanted = [*(objective.metric for objective in study.objectives), *SHOWN, *published, *teaching]
    # sorted() is stable: the others keep their order.
    return sorted(wanted, key=lambda metric: metric in COSTS)
