"""Confirmation of a search: re-train its best configuration on held-out seeds against the baselines.

The best of many trials is biased upward by selection, on its validation pairs and on the seeds that selected it. So the
final comparison uses test pairs and held-out seeds, paired with the recipes in ``warm_start`` and ``against``, as they
are, and with those in ``tuned`` after a search with as many trials.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.config.cells import Cell, Changes, cells_of, example_cell, make_cell, steps_of
from workbench.config.study import CellConfig, Study, flat, kept_at_lengths
from workbench.config.toml import at_length, parse_override
from workbench.sweeps.ledger import Ledger, Trial
from workbench.sweeps.plan import Group, groups
from workbench.sweeps.search import warm_start

NO_CHANGES = Changes()


def kept_trials(ledger: Ledger, num_kept: int) -> list[Trial]:
    """The best trials with a result, which train for longer; the best first."""
    from optuna.trial import TrialState

    complete = [trial for trial in ledger.trials() if trial.frozen.state == TrialState.COMPLETE]
    sign = -1 if ledger.study.objectives[0].direction == "maximize" else 1
    # Ties go to the earlier trial, since sorted() is stable.
    return sorted(complete, key=lambda trial: sign * (trial.frozen.values or [0.0])[0])[:num_kept]


def longer(study: Study, changes: Changes, steps: int, kept: Sequence[Trial]) -> Study:
    """The study that trains the best configurations of a search, from the start, for so many steps."""
    shared, own = _settings(study, changes)
    return Study(
        name=study.name,
        question=f"Which configurations are best after {steps:,} steps? ({study.question})",
        recipe=study.recipe,
        settings=shared | own,
        steps=steps,
        first_seed=study.first_seed,
        seeds=study.seeds,
        cells=[CellConfig(name=trial.name, settings=dict(trial.values)) for trial in kept],
        objectives=study.objectives,
        margin=study.margin,
    )


def best_trials(ledger: Ledger) -> list[Trial]:
    """The best trials so far: one, or the Pareto front of several objectives; empty without a result.

    Ties in a single objective go to the first trial.
    """
    try:
        numbers = sorted(frozen.number for frozen in ledger.optuna.best_trials)
    except (ValueError, RuntimeError):  # raised by Optuna for a study without a result
        return []
    is_single = len(ledger.study.objectives) == 1
    return [ledger.trial(number) for number in (numbers[:1] if is_single else numbers)]


def tuning(study: Study, changes: Changes, recipe: str, num_trials: int) -> Study:
    """The study that tunes a rival recipe, warm-started with the recipe's own settings.

    It has the seeds, steps, sampler, pruner and number of trials of the search itself.
    """
    shared, _ = _settings(study, changes)
    return Study(
        name=f"{study.name}-{short_name(recipe)}",
        question=f"How good is {short_name(recipe)}, tuned with as many trials? ({study.question})",
        recipe=recipe,
        settings=shared,
        steps=0 if study.lengths else steps_of(study, changes),
        lengths=study.lengths,
        first_seed=study.first_seed,
        seeds=study.seeds,
        search=study.tuned[recipe],
        trials=num_trials,
        sampler=study.sampler,
        pruner=study.pruner,
        warm_start=[recipe],
        confirm_seeds=0,
        budget=study.budget,
        objectives=study.objectives,
    )


def check_warm_starts(study: Study, changes: Changes) -> None:
    """Check the warm starts of a search and of the tuning of its rivals.

    Raises:
        ValueError: a recipe's value is outside the search space or missing.
    """
    for recipe in study.warm_start:
        warm_start(study, changes, recipe)
    for recipe in study.tuned:
        warm_start(tuning(study, changes, recipe, 1), NO_CHANGES, recipe)


def unbeaten(study: Study, changes: Changes, best: Sequence[Trial]) -> list[str]:
    """The warm-start recipes that are among the best trials themselves."""
    found = [dict(trial.values) for trial in best]
    return [recipe for recipe in study.warm_start if warm_start(study, changes, recipe) in found]


def confirming(
    study: Study, changes: Changes, best: Sequence[Trial], tuned: Mapping[str, Sequence[Trial]] = {}
) -> Study:
    """The study of the rivals and then the best trials, at the seeds that follow those of the search.

    Rivals share the search's settings except for losses, which belong to its trials. Duplicates are dropped: a warm
    start that is itself the best, or a recipe that tuning left unchanged.

    Args:
        tuned: best trials of every tuning, by recipe.
    """
    shared, _ = _settings(study, changes)
    cells = _confirmed_cells(study, changes, best, tuned)
    found = {trial.name for trial in best}
    rivals = [name for name in cells if name not in found]
    return Study(
        name=study.name,
        question=f"Does the result hold on held-out seeds? ({study.question})",
        recipe=study.recipe,
        settings=shared,
        steps=steps_of(study, changes),
        first_seed=study.first_seed + study.seeds,
        seeds=study.confirm_seeds,
        cells=list(cells.values()),
        objectives=study.objectives,
        baseline=rivals[0] if rivals else "",
        margin=study.margin,
    )


def _confirmed_cells(
    study: Study, changes: Changes, best: Sequence[Trial], tuned: Mapping[str, Sequence[Trial]]
) -> dict[str, CellConfig]:
    """The cells of :func:`confirming` by name, rivals first."""
    _, own = _settings(study, changes)
    as_tuned = {
        _tuned_name(recipe, trial, of): CellConfig(
            name=_tuned_name(recipe, trial, of), recipe=recipe, settings=dict(trial.values)
        )
        for recipe, of in tuned.items()
        for trial in of
    }
    untouched = [recipe for recipe, of in tuned.items() if unbeaten(tuning(study, changes, recipe, 1), NO_CHANGES, of)]
    cells = {
        short_name(recipe): CellConfig(name=short_name(recipe), recipe=recipe)
        for recipe in study.against
        if recipe not in untouched
    }
    found = {trial.name: dict(trial.values) for trial in best}
    beaten = [recipe for recipe in study.warm_start if recipe not in unbeaten(study, changes, best)]
    tried = {short_name(recipe): warm_start(study, changes, recipe) for recipe in beaten} | found
    return cells | as_tuned | {name: CellConfig(name=name, settings=own | values) for name, values in tried.items()}


def short_name(recipe: str) -> str:
    """A recipe's name in tables: its own or its file's."""
    return Path(recipe).stem if recipe.endswith(".toml") else recipe


def _settings(study: Study, changes: Changes) -> tuple[dict[str, Any], dict[str, Any]]:
    """(settings shared with the rivals, loss settings of its trials), with the command line's overrides."""
    settings = dict(study.settings)
    for override in changes.overrides:
        settings |= flat(parse_override(override))
    own = {key: value for key, value in settings.items() if key.startswith("loss.")}
    return {key: value for key, value in settings.items() if key not in own}, own


def _tuned_name(recipe: str, trial: Trial, of: Sequence[Trial]) -> str:
    return f"{short_name(recipe)} tuned" + (f" {trial.name}" if len(of) > 1 else "")


def measured_cells(study: Study, changes: Changes) -> tuple[Cell, ...]:
    """The cells measured for a forecast: all cells of a study, or an example of a search and its rivals."""
    if not study.search:
        return cells_of(study, changes)
    example = _example(study, changes)
    if not study.confirm_seeds:
        return (example,)
    # An untuned rival costs as much as a tuned one, and its trials do not exist yet.
    untuned = study.model_copy(update={"against": list(dict.fromkeys((*study.against, *study.tuned)))})
    rivals = {cell.name: cell for cell in cells_of(confirming(untuned, changes, []))}
    return (example, *(cell for name, cell in rivals.items() if name != example.name))


def _example(study: Study, changes: Changes) -> Cell:
    """One configuration of a search: its first warm start, else the lower ends of the search space."""
    if not study.warm_start:
        return example_cell(study, changes)
    recipe = study.warm_start[0]
    return make_cell(study, short_name(recipe), warm_start(study, changes, recipe), changes)


def cells_ahead(
    cells: Sequence[Cell], seeds: Sequence[int], at_once: int, ended: Collection[tuple[str, int]]
) -> list[Group]:
    """The groups of a grid without (cell, seed) pairs that have ended."""
    left = [
        Group(group.seed, tuple(cell for cell in group.cells if (cell.name, group.seed) not in ended))
        for group in groups(cells, seeds, at_once)
    ]
    return [group for group in left if group.cells]


def trials_ahead(study: Study, example: Cell, num_tried: int) -> list[Group]:
    """The runs of a search's remaining trials, one per group, if none is pruned."""
    seeds = range(study.first_seed, study.first_seed + study.seeds)
    return list(groups([example], seeds)) * max(0, study.trials - num_tried)


def rivals_ahead(study: Study, cells: Sequence[Cell], num_tuned: Mapping[str, int], at_once: int) -> Iterator[Group]:
    """The runs after a search: longer ones of the best, the trials that tune its rivals, and the confirmation.

    Args:
        cells: those of :func:`measured_cells`.
        num_tuned: number of tuning trials already done, by recipe.
    """
    if not study.confirm_seeds:
        yield from longer_ahead(study, cells[0])
        return
    example, by_name = cells[0], {cell.name: cell for cell in cells}
    yield from longer_ahead(study, example)
    for recipe in study.tuned:
        rival = by_name[short_name(recipe)]
        yield from trials_ahead(study, _at(rival, *study.lengths[:1]), num_tuned.get(recipe, 0))
        yield from longer_ahead(study, rival)
    recipes = [*study.against, *study.tuned, *study.warm_start]
    # The example stands for the best and, by its name, for the recipe that it starts from.
    rivals = [example, *(by_name[short_name(recipe)] for recipe in recipes)]
    final = [_at(cell, *study.lengths[-1:]) for cell in rivals]
    yield from groups(final, range(study.confirm_seeds), at_once)


def longer_ahead(study: Study, cell: Cell) -> Iterator[Group]:
    """The runs of the configurations that a search keeps at its later lengths; ``cell`` is any of them."""
    seeds = range(study.first_seed, study.first_seed + study.seeds)
    for steps, num_kept in zip(study.lengths[1:], kept_at_lengths(study.trials, len(study.lengths)), strict=True):
        yield from list(groups([_at(cell, steps)], seeds)) * num_kept


def _at(cell: Cell, steps: int = 0) -> Cell:
    return replace(cell, config=at_length(cell.config, steps, ())) if steps else cell
