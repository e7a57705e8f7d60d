import numpy as np
import pytest

from workbench.tui.charts.heat import NAMES, Grid, grid_of
from workbench.views.affinity import AffinityView


def view_of(num_pairs: int, *, has_teacher: bool = True) -> AffinityView:
    values_PP = np.eye(num_pairs)
    captions = tuple(map(str, range(num_pairs)))
    return AffinityView(1, captions, "affinity", values_PP, values_PP if has_teacher else None)


@pytest.mark.parametrize("num_pairs", [3, 8, 32, 200])
@pytest.mark.parametrize("size", [(30, 6), (78, 14), (118, 28), (198, 50)])
def test_the_grid_fits_and_uses_most_of_the_space(num_pairs: int, size: tuple[int, int]) -> None:
    grid = grid_of(view_of(num_pairs), *size)
    assert grid.names == NAMES
    assert grid.columns <= size[0]
    assert grid.rows <= max(size[1], 4)
    # The next half of a pixel for every entry would not have fitted.
    assert 1.5 * grid.size + 1 > min((size[0] - 8) // 3, 2 * (size[1] - 3)) or grid.num_pairs < num_pairs
    assert np.array_equal(np.unique(grid.entry_S), np.arange(grid.num_pairs))


def test_without_a_teacher_there_is_one_matrix() -> None:
    assert grid_of(view_of(8, has_teacher=False), 118, 28).names == ("student",)


def test_entries_of_a_stretched_matrix_differ_by_a_pixel_at_most() -> None:
    widths = np.bincount(Grid(32, NAMES, 62).entry_S)
    assert (widths.min(), widths.max()) == (1, 2)
