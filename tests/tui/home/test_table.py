import pytest

from workbench.tui.home.table import Needs, columns
from workbench.tui.rows import GAP, SCROLLBAR


@pytest.mark.parametrize(("width", "wanted"), [(60, 20), (80, 28), (140, 46), (200, 48)])
def test_columns_fit_beside_the_scrollbar_and_come_after_the_names(width: int, wanted: int) -> None:
    for need in (Needs(36), Needs(12, has_live=True, has_left=True, has_open=True, has_studies=True), Needs(90)):
        shown = columns(width, "image_to_text_r1", need)
        assert sum(column.width + GAP for column in shown) + 1 <= width - SCROLLBAR or width == 60
        (name,) = (column.width for column in shown if column.key == "name")
        assert name >= min(need.name, wanted) or need.has_live
