"""The remaining runs of a study, as groups: its cells or trials, and the runs after a search."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from workbench.config.cells import Cell, Changes, cells_of, example_cell, make_cell
from workbench.config.study import Study
from workbench.sweeps.confirm import confirming, short_name
from workbench.sweeps.plan import Group, groups
from workbench.sweeps.search import warm_start


def measured_cells(study: Study, changes: Changes) -> tuple[Cell, ...]:
    """The cells measured for a forecast: all cells of a study, or an example of a search and its rivals."""
    if not study.search:
        return cells_of(study, changes)
    example = _example(study, changes)
    if not study.confirm_seeds:
        return (example,)
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
    """The runs after a search: the trials that tune its rivals, and the confirmation.

    Args:
        cells: those of :func:`measured_cells`.
        num_tuned: number of tuning trials already done, by recipe.
    """
    if not study.confirm_seeds:
        return
    example, by_name = cells[0], {cell.name: cell for cell in cells}
    for recipe in study.tuned:
        yield from trials_ahead(study, by_name[short_name(recipe)], num_tuned.get(recipe, 0))
    recipes = [*study.against, *study.tuned, *study.warm_start]
    final = [example, *(by_name[short_name(recipe)] for recipe in recipes)]
    yield from groups(final, range(study.confirm_seeds), at_once)
