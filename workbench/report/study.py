"""A study's runs -> everything its report says, as plain data: the table, what it means, and on what it rests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workbench.config.study import Study
from workbench.report.collect import LOSSES, Collected, collect, confirmation_name
from workbench.report.comparison import Interpretation, interpret_against
from workbench.report.facts import Facts, facts
from workbench.report.importance import Importance, importance
from workbench.statistics.intervals import Estimate, seed_mean
from workbench.statistics.pooled import Effect, main_effects, pooled_spread
from workbench.statistics.rank_agreement import Agreement, rank_agreement
from workbench.views.curves import LearningView
from workbench.views.metrics import MetricLabel
from workbench.views.study import Entry, Point, SearchPoint, StudyCell, StudyTable, history, pareto, shown_metrics

SHOWN = ("image_to_text_r1", "text_to_image_r1", "zero_shot_top1")
COSTS = ("num_params", "elapsed_s")
TEACHING = ("similarity_single", "similarity_cross", "cka", "affinity_kl")


@dataclass(frozen=True)
class StudyReport:
    """All that a report says.

    Attributes:
        to_baseline, to_best: by metric; the best is the study's first objective's, by validation.
        agreement: by metric, between our order of the cells and the paper's.
        forecast: by training step, between the order at that step and the last, of the first objective.
        effects: of a grid of several settings, by metric.
        front: of a study with several objectives.
        tried: of a search, in order.
        confirmed: of a search, its best and its rivals at fresh seeds, once that has begun.
    """

    study: Study
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
    importance: Importance = field(default_factory=Importance)
    confirmed: "StudyReport | None" = None

    @property
    def has_runs(self) -> bool:
        return any(one.run for cell in self.table.cells for one in cell.replicates)

    @property
    def main(self) -> MetricLabel | None:
        """The metric that the study is about: its first objective, or else the first that was measured."""
        wanted = self.study.objectives[0].metric
        return next(
            (label for label in self.table.metrics if label.name == wanted), next(iter(self.table.metrics), None)
        )


def report_on(study: Study, name: str, runs_dir: Path, source: str = "") -> StudyReport:
    """Everything about a study, as far as its runs have come.

    Args:
        name: under which the runs are kept, see ``--name``.
        source: what a person called it; its name if not given.

    Raises:
        ValueError: the study's cells cannot be, or the folder cannot be read.
    """
    from workbench.report.comparison import learning_of, rank_forecast, validation_curves

    found = collect(study, name, runs_dir)
    objective = study.objectives[0]
    drawn = validation_curves(found, objective.metric)
    baseline = _baseline(study, found.cells)
    metrics = shown_metrics(_wanted(study), found.cells)
    to_baseline = interpret_against(metrics, found.cells, baseline)
    best = best_cell(study, found.cells)
    return StudyReport(
        study=study,
        table=_table(study, name, found, baseline, metrics, to_baseline),
        best=best,
        to_baseline=to_baseline,
        to_best=interpret_against(metrics, found.cells, best),
        agreement=_agreement(study, metrics, found.cells),
        forecast=rank_forecast(drawn, objective.metric),
        effects=_effects(study, metrics, found.cells),
        front=_front(study, found.cells),
        tried=history(found.cells, objective.metric, objective.direction) if study.search else (),
        learning=learning_of(drawn, objective.metric),
        made_on=facts(study, name, source or study.name, found.runs),
        importance=importance(study, found.cells),
        confirmed=_confirmed(study, name, runs_dir),
    )


def _confirmed(study: Study, name: str, runs_dir: Path) -> StudyReport | None:
    called = confirmation_name(name, runs_dir) if study.confirm_seeds else ""
    fresh = {"first_seed": study.first_seed + study.seeds, "seeds": study.confirm_seeds, "confirm_seeds": 0}
    return report_on(study.model_copy(update=fresh), called, runs_dir) if called else None


def best_cell(study: Study, cells: Sequence[StudyCell]) -> str:
    """The cell whose validation mean is best, of those with every seed and within the budget; empty if none is."""
    objective = study.objectives[0]
    sign = 1 if objective.direction == "maximize" else -1
    means = {cell.name: _mean(cell, objective.metric) for cell in cells if cell.is_complete and _fits(study, cell)}
    known = {name: sign * mean for name, mean in means.items() if mean is not None}
    return max(known, key=lambda name: known[name]) if known else ""


def _fits(study: Study, cell: StudyCell) -> bool:
    means = {metric: _mean(cell, metric) for metric in study.budget}
    return all(mean is not None and mean <= study.budget[metric] for metric, mean in means.items())


def _mean(cell: StudyCell, metric: str) -> float | None:
    values = cell.by_seed(metric, validation=True).values()
    return sum(values) / len(values) if values else None


def _baseline(study: Study, cells: Sequence[StudyCell]) -> str:
    """The study's; of a search that was warm-started, what it started from."""
    if study.baseline or not (study.search and study.warm_start):
        return study.baseline
    tried = [cell for cell in cells if cell.trial is not None]
    return min(tried, key=lambda cell: cell.trial or 0).name if tried else ""


def _wanted(study: Study) -> list[str]:
    """The metrics to show: what is asked about, what is always of interest, what the paper publishes; costs last."""
    published = [metric for of in study.paper.cells.values() for metric in of] if study.paper else []
    teaching = TEACHING if set(TEACHING) & set(published) else ()
    wanted = [*(objective.metric for objective in study.objectives), *SHOWN, *published, *teaching]
    return sorted(wanted, key=lambda metric: metric in COSTS)


def _table(
    study: Study,
    name: str,
    found: Collected,
    baseline: str,
    metrics: tuple[MetricLabel, ...],
    told: Mapping[str, Interpretation],
) -> StudyTable:
    published = study.paper.cells if study.paper else {}
    entries = {
        cell.name: {metric.name: _entry(cell, metric, told.get(metric.name), published, baseline) for metric in metrics}
        for cell in found.cells
    }
    source = study.paper.source if study.paper else ""
    return StudyTable(name, study.question, baseline, found.split, metrics, found.cells, entries, source)


def _entry(
    cell: StudyCell,
    metric: MetricLabel,
    told: Interpretation | None,
    published: Mapping[str, Mapping[str, float]],
    baseline: str,
) -> Entry:
    paper, theirs = (published.get(one, {}).get(metric.name) for one in (cell.name, baseline))
    return Entry(
        mean=_estimate(cell, metric.name),
        gain=told.gains.get(cell.name) if told else None,
        p_value=told.p_values.get(cell.name) if told else None,
        verdict=told.verdicts.get(cell.name, "") if told else "",
        paper=paper,
        paper_gain=None if paper is None or theirs is None or cell.name == baseline else paper - theirs,
    )


def _estimate(cell: StudyCell, metric: str) -> Estimate | None:
    """Over seeds, and over test items where the evaluator gives its standard errors."""
    values = cell.by_seed(metric)
    if not values:
        return None
    found = [one for one in cell.finished if one.seed in values]
    errors = [one.errors[metric] for one in found if metric in one.errors]
    if len(errors) < len(found):
        return seed_mean(list(values.values()))
    return seed_mean(list(values.values()), errors, num_items=min(one.num_items for one in found))


def _agreement(study: Study, metrics: Sequence[MetricLabel], cells: Sequence[StudyCell]) -> dict[str, Agreement]:
    """How far our order is the paper's, of the cells that both have."""
    if not study.paper:
        return {}
    found = {}
    for metric in metrics:
        if metric.name in (*LOSSES, *COSTS):  # ordered by arithmetic, not by what was learnt
            continue
        values = {cell.name: of for cell in cells if (of := cell.by_seed(metric.name))}
        both = [cell for cell in values if metric.name in study.paper.cells.get(cell, {})]
        means = [sum(values[cell].values()) / len(values[cell]) for cell in both]
        theirs = [study.paper.cells[cell][metric.name] for cell in both]
        spread = pooled_spread(values)
        fewest = min((len(values[cell]) for cell in both), default=1)
        agreed = rank_agreement(means, theirs, spread.sd / (2 * fewest) ** 0.5, spread.df)
        if agreed:
            found[metric.name] = agreed
    return found


def _effects(study: Study, metrics: Sequence[MetricLabel], cells: Sequence[StudyCell]) -> dict[str, list[Effect]]:
    if len(study.grid) < 2:
        return {}
    levels = {cell.name: {key: _hashable(value) for key, value in cell.values.items()} for cell in cells}
    levels = {name: of for name, of in levels.items() if of.keys() == study.grid.keys()}
    found = {
        metric.name: main_effects({cell.name: cell.by_seed(metric.name) for cell in cells}, levels)
        for metric in metrics
    }
    return {metric: effects for metric, effects in found.items() if effects}


def _hashable(value: object) -> object:
    return value if isinstance(value, bool | int | float | str) else str(value)


def _front(study: Study, cells: Sequence[StudyCell]) -> list[Point]:
    """The trade between several objectives, by validation: what a choice would go by."""
    if len(study.objectives) < 2:
        return []
    values = {}
    for cell in cells:
        means = [_mean(cell, objective.metric) for objective in study.objectives]
        known = [mean for mean in means if mean is not None]
        if cell.is_complete and len(known) == len(means):
            values[cell.name] = known
    return pareto(values, [objective.direction for objective in study.objectives])
