"""Planning a study: checks before training, and groups of cells that can train together as a cohort."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from workbench.config.cells import Cell
from workbench.config.study import Study
from workbench.engine.build import SHARED
from workbench.losses.objective import Objective
from workbench.preflight.precheck import check_objectives


def check_study(study: Study, cells: Sequence[Cell]) -> None:
    """Check objectives, budgets and losses before loading a model.

    Args:
        cells: all cells of a grid or list, or examples of a search.

    Raises:
        ValueError: an objective or budget that is never measured, or an invalid loss, with the cell's name.
    """
    check_objectives(study, cells)
    for cell in _of_different_losses(cells):
        width = 1 if cell.config.teacher.model else None
        try:
            Objective(cell.config.loss, cell.config.train.batch_size, width)
        except ValueError as error:
            raise ValueError(f"cell '{cell.name}': {error}") from None


def _of_different_losses(cells: Iterable[Cell]) -> list[Cell]:
    """One cell per set of losses, so that a user's loss file is loaded only once."""
    found: dict[str, Cell] = {}
    for cell in cells:
        found.setdefault(repr((cell.config.loss, bool(cell.config.teacher.model))), cell)
    return list(found.values())


@dataclass(frozen=True)
class Group:
    """Cells that train on the same batches at one seed, in one process."""

    seed: int
    cells: tuple[Cell, ...]

    @property
    def num_steps(self) -> int:
        return self.cells[0].config.train.num_steps


def groups(cells: Sequence[Cell], seeds: Sequence[int], at_once: int = 0) -> Iterator[Group]:
    """Groups that cover every cell at every seed, seed by seed, each as large as possible.

    Cells of one seed see the same batches in any grouping, since batches depend on the data seed only; differences
    are always paired.

    Args:
        at_once: maximum number of cells per group; 0 for no limit.
    """
    for seed in seeds:
        for mates in _mates(cells):
            size = at_once or len(mates)
            for start in range(0, len(mates), size):
                yield Group(seed, tuple(mates[start : start + size]))


def _mates(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells partitioned by cohort settings, in order."""
    found: list[list[Cell]] = []
    for cell in cells:
        mates = next((group for group in found if may_train_together(group[0], cell)), None)
        if mates is None:
            found.append([cell])
        else:
            mates.append(cell)
    return found


def may_train_together(one: Cell, other: Cell) -> bool:
    """Whether two cells can train in one cohort.

    Students of different architectures may differ in image size, so they train separately, which only costs time.
    """
    return all(getattr(one.config, part) == getattr(other.config, part) for part in (*SHARED, "student"))
