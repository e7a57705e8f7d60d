"""The figure of a run in training, from before its first step."""

import numpy as np

from workbench.figures.training import training_figure
from workbench.views.curves import Curves, Series
from workbench.views.metrics import metric_label

METRIC = metric_label("image_to_text_r1")


def series(*values: float) -> Series:
    return Series(np.arange(1, len(values) + 1), np.array(values))


def test_losses_and_their_total_stand_left_and_the_metric_in_its_unit_right() -> None:
    weighted = {"clip": series(4.0, 3.0), "mine": series(2.0, 1.0), "off": series(0.0, 0.0)}
    found = Curves("r", series(6.0, 4.0), weighted, {"validation": {METRIC.name: series(0.1, 0.25)}})
    left, right = training_figure(found, METRIC, "validation", 40).axes
    lines = {line.get_label(): line.get_ydata().tolist() for line in left.get_lines()}
    assert lines == {"total": [6.0, 4.0], "clip": [4.0, 3.0], "mine": [2.0, 1.0]}
    assert right.get_lines()[0].get_ydata().tolist() == [10.0, 25.0]
    assert left.get_xlim() == right.get_xlim() == (0, 40)
    assert "(%)" in right.get_title(loc="left")


def test_before_the_first_step_and_evaluation_both_axes_are_empty() -> None:
    for found in (None, Curves("r", series(), {}, {})):
        axes = training_figure(found, METRIC, "validation", 0).axes
        assert [one.texts[0].get_text() for one in axes] == ["no data yet", "no data yet"]


def test_a_loss_that_diverges_or_is_negative_leaves_a_gap() -> None:
    found = Curves("r", series(1.0, np.nan), {"clip": series(1.0, -2.0)}, {})
    (line,) = training_figure(found, METRIC, "validation", 2).axes[0].get_lines()
    assert np.isnan(line.get_ydata()).tolist() == [False, True]
