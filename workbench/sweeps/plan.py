"""Which runs train together: a seed is a cohort, with every cell in it that shares what a cohort must share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from workbench.config.cells import Cell
from workbench.engine.build import SHARED


@dataclass(frozen=True)
class Group:
    """Cells that train on the same batches at one seed, in one process."""

    seed: int
    cells: tuple[Cell, ...]

    @property
    def num_steps(self) -> int:
        return self.cells[0].config.train.num_steps


def groups(cells: Sequence[Cell], seeds: Sequence[int], at_once: int = 0) -> Iterator[Group]:
    """Every cell at every seed, once: seed by seed, and within a seed as many together as may be.

    Cells of one seed see the same batches whether they train together or apart, for these depend on the data's seed
    alone; differences between them are paired either way.

    Args:
        at_once: most cells that fit into memory together; 0 for any number.
    """
    for seed in seeds:
        for mates in _mates(cells):
            size = at_once or len(mates)
            for start in range(0, len(mates), size):
                yield Group(seed, tuple(mates[start : start + size]))


def _mates(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells by what a cohort shares, in the order in which they come."""
    found: list[list[Cell]] = []
    for cell in cells:
        mates = next((group for group in found if may_train_together(group[0], cell)), None)
        if mates is None:
            found.append([cell])
        else:
            mates.append(cell)
    return found


def may_train_together(one: Cell, other: Cell) -> bool:
    """Whether two cells can be of one cohort.

    Students of different architectures may take pictures of different sizes: they train apart, which costs time only.
    """
    return all(getattr(one.config, part) == getattr(other.config, part) for part in (*SHARED, "student"))
