"""The content of a study's report as plain data, computed from its runs: table, comparisons and provenance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workbench.config.study import Study
from workbench.report.collect import LOSSES, Collected, collect, confirmation_name
from workbench.report.comparison import Importance, Interpretation, importance, interpret_against
from workbench.report.facts import Facts, facts
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
    """The content of a report.

    Attributes:
        to_baseline, to_best: comparisons by metric; the best is by the first objective on the validation pairs.
        agreement: agreement of our order of the cells with the paper's, by metric.
        forecast: agreement of the order at a training step with the final one, by step, of the first objective.
        effects: main effects by metric, for a grid of several settings.
        front: Pareto front, for a study with several objectives.
        tried: trials of a search, in order.
        confirmed: the confirmation of a search (best and rivals on held-out seeds), once it has started.
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
        """The study's main metric: its first objective, or else the first measured metric."""
        wanted = self.study.objectives[0].metric
        return next(
            (label for label in self.table.metrics if label.name == wanted), next(iter(self.table.metrics), None)
        )


def report_on(study: Study, name: str, runs_dir: Path, source: str = "") -> StudyReport:
    """The report of a study from its runs so far.

    Args:
        name: the name that the runs have, see ``--name``.
        source: the study's name or file as given by the user; default its name.

    Raises:
        ValueError: a cell of the study is invalid, or the folder cannot be read.
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
    """The cell with the best validation mean among complete ones within the budget; empty if there is none."""
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
    """The study's baseline; for a warm-started search, its first trial."""
    if study.baseline or not (study.search and study.warm_start):
        return study.baseline
    tried = [cell for cell in cells if cell.trial is not None]
    return min(tried, key=lambda cell: cell.trial or 0).name if tried else ""


def _wanted(study: Study) -> list[str]:
    """The metrics to show: objectives, standard metrics, published ones; costs last."""
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
    compared: Mapping[str, Interpretation],
) -> StudyTable:
    published = study.paper.cells if study.paper else {}
    entries = {
        cell.name: {
            metric.name: _entry(cell, metric, compared.get(metric.name), published, baseline) for metric in metrics
        }
        for cell in found.cells
    }
    source = study.paper.source if study.paper else ""
    return StudyTable(name, study.question, baseline, found.split, metrics, found.cells, entries, source)


def _entry(
    cell: StudyCell,
    metric: MetricLabel,
    compared: Interpretation | None,
    published: Mapping[str, Mapping[str, float]],
    baseline: str,
) -> Entry:
    paper, theirs = (published.get(one, {}).get(metric.name) for one in (cell.name, baseline))
    return Entry(
        mean=_estimate(cell, metric.name),
        gain=compared.gains.get(cell.name) if compared else None,
        p_value=compared.p_values.get(cell.name) if compared else None,
        verdict=compared.verdicts.get(cell.name, "") if compared else "",
        paper=paper,
        paper_gain=None if paper is None or theirs is None or cell.name == baseline else paper - theirs,
    )


def _estimate(cell: StudyCell, metric: str) -> Estimate | None:
    """Mean over seeds; the interval covers test items if the metric has standard errors."""
    values = cell.by_seed(metric)
    if not values:
        return None
    found = [one for one in cell.finished if one.seed in values]
    errors = [one.errors[metric] for one in found if metric in one.errors]
    if len(errors) < len(found):
        return seed_mean(list(values.values()))
    return seed_mean(list(values.values()), errors, num_items=min(one.num_items for one in found))


def _agreement(study: Study, metrics: Sequence[MetricLabel], cells: Sequence[StudyCell]) -> dict[str, Agreement]:
    """Agreement of our order with the paper's, over the cells that both have."""
    if not study.paper:
        return {}
    found = {}
    for metric in metrics:
        if metric.name in (*LOSSES, *COSTS):  # their order follows from the settings, not from training
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
    """The cells in the space of several objectives, on the validation pairs."""
    if len(study.objectives) < 2:
        return []
    values = {}
    for cell in cells:
        means = [_mean(cell, objective.metric) for objective in study.objectives]
        known = [mean for mean in means if mean is not None]
        if cell.is_complete and len(known) == len(means):
            values[cell.name] = known
    return pareto(values, [objective.direction for objective in study.objectives])
