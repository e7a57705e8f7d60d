"""A study's table before any statistics: states, fronts, histories and parallel coordinates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.statistics.intervals import seed_mean
from workbench.views.metrics import metric_label
from workbench.views.study import (
    Entry,
    Replicate,
    StudyCell,
    StudyTable,
    history,
    paper_in_our_unit,
    parallel,
    pareto,
    shown_metrics,
)


def cell(name: str, *replicates: Replicate, trial: int | None = None, **values: object) -> StudyCell:
    return StudyCell(name, values, replicates, trial)


def finished(seed: int, value: float) -> Replicate:
    return Replicate(seed, "finished", f"run-{seed}", metrics={"r1": value}, validation={"r1": value / 2})


def test_only_finished_seeds_have_values_and_the_most_severe_state_counts():
    one = cell("a", finished(0, 0.3), Replicate(1, "running", "r", 40, 80), Replicate(2, "diverged", "d", 7, 80))
    assert one.by_seed("r1") == {0: 0.3}
    assert one.by_seed("r1", validation=True) == {0: 0.15}
    assert one.by_seed("other") == {}
    assert (one.state, one.is_complete) == ("diverged", False)
    assert one.replicates[1].state_text == "running, step 40 of 80"
    assert cell("b", finished(0, 0.1)).state == "finished"
    assert cell("c", Replicate(0)).state == "missing"


def test_a_value_that_is_not_finite_is_none():
    assert cell("a", finished(0, float("nan")), finished(1, 0.2)).by_seed("r1") == {1: 0.2}


def table(*cells: StudyCell) -> StudyTable:
    return StudyTable("s", "?", "", "test", (), cells, {})


def test_cells_of_one_rising_setting_are_a_series():
    assert table(cell("0", w=0), cell("0.5", w=0.5), cell("2", w=2)).levels == (0, 0.5, 2)
    assert table(cell("2", w=2), cell("0", w=0)).levels is None
    assert table(cell("a", w="x"), cell("b", w="y")).levels is None
    assert table(cell("a"), cell("b", w=1)).levels is None
    assert table(cell("a", w=1, v=1), cell("b", w=2, v=1)).levels is None
    assert table(cell("a", w=False), cell("b", w=True)).levels is None


def test_the_papers_values_keep_their_digits():
    label = metric_label("zero_shot_top1")
    assert [paper_in_our_unit(label, value) for value in (31.0, 34.2, 30.55, 34.90)] == [
        "31.0",
        "34.2",
        "30.55",
        "34.9",
    ]
    assert paper_in_our_unit(metric_label("similarity_cross"), 0.32) == "0.32"


def test_metrics_that_no_cell_has_are_left_out_once_any_has_finished():
    assert [label.name for label in shown_metrics(["r1", "cka", "r1"], [cell("a", finished(0, 0.1))])] == ["r1"]
    assert [label.name for label in shown_metrics(["r1", "cka"], [cell("a", Replicate(0))])] == ["r1", "cka"]


points = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.tuples(*[st.integers(0, 4)] * 2), max_size=8)


@given(points)
def test_the_pareto_front_by_brute_force(values):
    found = {point.cell for point in pareto(values, ["maximize", "minimize"]) if point.on_front}
    for name, (up, down) in values.items():
        beaten = any(u >= up and d <= down and (u, d) != (up, down) for u, d in values.values())
        assert (name in found) == (not beaten)


def test_the_best_so_far_needs_every_seed():
    cells = [
        cell("t0", finished(0, 0.2), finished(1, 0.4), trial=0),
        cell("t1", finished(0, 0.9), Replicate(1), trial=1),
        cell("t2", finished(0, 0.5), finished(1, 0.5), trial=2),
        cell("none", Replicate(0)),
    ]
    found = history(cells, "r1", "maximize")
    assert [(one.cell, one.value, one.best, one.num_seeds) for one in found] == [
        ("t0", 0.15000000000000002, 0.15000000000000002, 2),
        ("t1", 0.45, 0.15000000000000002, 1),
        ("t2", 0.25, 0.25, 2),
    ]
    assert history(cells, "r1", "minimize")[-1].best == found[0].value


R1, KL = metric_label("image_to_text_r1"), metric_label("affinity_kl")


def measured_table(values: dict[str, dict[str, object]], means: dict[str, float]) -> StudyTable:
    cells = tuple(
        StudyCell(name, of, (Replicate(0, "finished" if name in means else "missing"),)) for name, of in values.items()
    )
    entries = {name: {R1.name: Entry(seed_mean([mean, mean + 0.02]))} for name, mean in means.items()}
    return StudyTable("s", "?", "a", "test", (R1, KL), cells, {name: {} for name in values} | entries)


def test_lines_are_finished_cells_and_axes_settings_and_metrics() -> None:
    view = parallel(measured_table({"a": {"w": 1}, "b": {"w": 5}, "c": {"w": 9}}, {"a": 0.1, "b": 0.3}))
    assert view.lines == ("a", "b")
    assert [axis.name for axis in view.axes] == ["w", "image_to_text_r1"]
    assert view.axes[1].value_N == pytest.approx([11, 31])
    assert view.axes[1].height_N == pytest.approx([0, 1])


def test_brushes_keep_lines_within_all_limits() -> None:
    view = parallel(measured_table({"a": {"w": 1}, "b": {"w": 5}, "c": {"w": 9}}, {"a": 0.1, "b": 0.3, "c": 0.2}))
    assert view.kept_N({}).tolist() == [True, True, True]
    assert view.kept_N({"w": (2, 9)}).tolist() == [False, True, True]
    assert view.kept_N({"w": (2, 9), "image_to_text_r1": (0, 25)}).tolist() == [False, False, True]


def test_words_are_numbered_and_cells_of_different_settings_go_by_name() -> None:
    words = parallel(
        measured_table({"a": {"c": "paper"}, "b": {"c": "released"}, "d": {"c": "paper"}}, dict.fromkeys("abd", 0.1))
    )
    assert words.axes[0].words == ("paper", "released")
    assert words.axes[0].value_N.tolist() == [0, 1, 0]
    mixed = parallel(measured_table({"a": {"w": 1}, "b": {"v": 2}}, {"a": 0.1, "b": 0.1}))
    assert (mixed.axes[0].name, mixed.axes[0].words) == ("cell", ("a", "b"))
    assert np.isfinite(mixed.axes[1].height_N).all()


def test_a_study_without_a_finished_run_has_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="no run of study 's' has finished"):
        parallel(measured_table({"a": {"w": 1}}, {}))
