import numpy as np
import pytest

from workbench.statistics.intervals import seed_mean
from workbench.views.metrics import metric_label
from workbench.views.parallel import parallel
from workbench.views.study import Entry, Replicate, StudyCell, StudyTable

R1, KL = metric_label("image_to_text_r1"), metric_label("affinity_kl")


def table(values: dict[str, dict[str, object]], means: dict[str, float]) -> StudyTable:
    cells = tuple(
        StudyCell(name, of, (Replicate(0, "finished" if name in means else "missing"),)) for name, of in values.items()
    )
    entries = {name: {R1.name: Entry(seed_mean([mean, mean + 0.02]))} for name, mean in means.items()}
    return StudyTable("s", "?", "a", "test", (R1, KL), cells, {name: {} for name in values} | entries)


def test_lines_are_finished_cells_and_axes_settings_and_metrics() -> None:
    view = parallel(table({"a": {"w": 1}, "b": {"w": 5}, "c": {"w": 9}}, {"a": 0.1, "b": 0.3}))
    assert view.lines == ("a", "b")
    assert [axis.name for axis in view.axes] == ["w", "image_to_text_r1"]
    assert view.axes[1].value_N == pytest.approx([11, 31])
    assert view.axes[1].height_N == pytest.approx([0, 1])


def test_brushes_keep_lines_within_all_limits() -> None:
    view = parallel(table({"a": {"w": 1}, "b": {"w": 5}, "c": {"w": 9}}, {"a": 0.1, "b": 0.3, "c": 0.2}))
    assert view.kept_N({}).tolist() == [True, True, True]
    assert view.kept_N({"w": (2, 9)}).tolist() == [False, True, True]
    assert view.kept_N({"w": (2, 9), "image_to_text_r1": (0, 25)}).tolist() == [False, False, True]


def test_words_are_numbered_and_cells_of_different_settings_go_by_name() -> None:
    words = parallel(
        table({"a": {"c": "paper"}, "b": {"c": "released"}, "d": {"c": "paper"}}, dict.fromkeys("abd", 0.1))
    )
    assert words.axes[0].words == ("paper", "released")
    assert words.axes[0].value_N.tolist() == [0, 1, 0]
    mixed = parallel(table({"a": {"w": 1}, "b": {"v": 2}}, {"a": 0.1, "b": 0.1}))
    assert (mixed.axes[0].name, mixed.axes[0].words) == ("cell", ("a", "b"))
    assert np.isfinite(mixed.axes[1].height_N).all()


def test_a_study_without_a_finished_run_has_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="no run of study 's' has finished"):
        parallel(table({"a": {"w": 1}}, {}))
