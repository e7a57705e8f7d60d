"""The forest plot of a study, by the places of its marks."""

import pytest

from workbench.statistics.intervals import Estimate
from workbench.tui.study.forest import AROUND, Forest, ForestRow, axis, forest_line, forest_range, forest_rows
from workbench.views.metrics import metric_label
from workbench.views.study import Entry, StudyCell, StudyTable

METRIC = metric_label("image_to_text_r1")


def table_of(**entries: Entry) -> StudyTable:
    cells = tuple(StudyCell(name, {}, ()) for name in entries)
    by_cell = {name: {METRIC.name: entry} for name, entry in entries.items()}
    return StudyTable("study", "", next(iter(entries)), "test", (METRIC,), cells, by_cell)


def test_rows_are_in_percent_and_within_what_the_metric_can_be() -> None:
    few = Estimate(0.9, 0.4, 1.4, (0.85, 0.95), "seeds")
    table = table_of(
        base=Entry(Estimate(0.5, 0.45, 0.55, (0.5, 0.5), "seeds")),
        fd=Entry(few, verdict="open", seeds_needed=7, paper=36.7),
        icl=Entry(Estimate(0.6, 0.58, 0.62, (0.6,), "seeds"), verdict="better"),
        new=Entry(),
    )
    base, fd, icl, new = forest_rows(table, METRIC, table.cells)
    assert (base.is_open, base.note) == (False, "baseline")
    assert (fd.low, fd.high) == pytest.approx((40, 100))
    assert fd.seeds == pytest.approx((85, 95))
    assert (fd.is_open, fd.note, fd.paper) == (True, "open, 7 seeds", 36.7)
    assert (icl.is_open, icl.color) == (False, "success")
    assert (new.mean, new.low, new.seeds) == (None, None, ())


def test_every_mark_is_at_its_value() -> None:
    row = ForestRow("fd", 50.0, 20.0, 80.0, (40.0, 60.0), paper=90.0)
    line = forest_line(row, (0.0, 100.0), 101, baseline=10.0)
    assert {mark: line.index(mark) for mark in "┊├•○┤◆"} == {"┊": 10, "├": 20, "•": 40, "○": 50, "┤": 80, "◆": 90}
    assert line.count("•") == 2
    assert line[70] == "─"
    assert line[85] == " "
    assert "●" in forest_line(ForestRow("fd", 50.0, is_open=False), (0.0, 100.0), 101, None)


def test_an_interval_that_is_far_wider_than_all_points_is_cut_and_says_so() -> None:
    rows = [ForestRow("a", 50.0, 0.0, 100.0, (49.0, 51.0)), ForestRow("b", 52.0, 51.0, 53.0, (52.0,))]
    x_range = forest_range(rows)
    assert x_range is not None
    assert 45 < x_range[0] < 47
    line = forest_line(rows[0], x_range, 60, None)
    assert (line[0], line[-1]) == ("◂", "▸")
    assert forest_range([ForestRow("none")]) is None


def test_the_axis_labels_stand_below_their_ticks() -> None:
    line, labels = axis((0.0, 100.0), 101)
    assert line.index("┬") == 0
    assert line[40] == "┬"
    assert labels[39:41] == "40"
    assert len(line) == len(labels) == 101


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
def test_it_stands_below_the_table_in_its_order(record, drive, seen, soon, size) -> None:
    record.study("fd_weight", {f"{weight}": {"loss.fd.weight": weight} for weight in (0, 10, 100)}, seeds=3)

    async def steps(pilot) -> None:
        await soon(lambda: pilot.app.screen.study_state is not None)
        await pilot.pause()
        forest = pilot.app.screen.query_one(Forest)
        assert forest.display
        assert forest.size.height == 6 + AROUND  # the study's file has six cells
        text = seen(pilot).splitlines()
        assert any("baseline" in line and "●" in line and "├" in line for line in text)
        assert any("◆" in line for line in text)  # CLIP-KD's Table 1
        await pilot.press("f")
        assert not forest.display

    drive(steps, study="fd_weight", size=size)
