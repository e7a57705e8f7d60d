"""Figures of mutual information bounds against their views."""

import math

import numpy as np
import pytest

from workbench.figures.information import information_figure, information_over_time_figure
from workbench.views.curves import Series
from workbench.views.information import InformationBounds, InformationOverTime

SIZES = 2 ** np.arange(4)


def bounds(*means: float) -> InformationBounds:
    mean_N = np.array(means)
    return InformationBounds(SIZES[: len(means)], mean_N, mean_N - 0.1, mean_N + 0.05)


def lines(axes) -> dict:
    return {line.get_label(): list(map(float, line.get_ydata())) for line in axes.get_lines()}


def test_every_pairing_is_a_line_below_log_n_and_the_truth_may_be_above() -> None:
    figure = information_figure({"teacher": bounds(0, 0.6, 1.3, 2.0), "student": bounds(0, 0.5, 0.6, 0.65)}, truth=5.0)
    (axes,) = figure.axes
    found = lines(axes)
    assert found["teacher"] == [0, 0.6, 1.3, 2.0]
    assert np.log(SIZES).tolist() in list(found.values())
    assert [5.0, 5.0] in list(found.values())
    assert axes.get_ylim()[1] > 5 > math.log(8)
    assert "true value: 5 nats" in [text.get_text() for text in axes.texts]
    hatched = [shape for shape in axes.collections if shape.get_hatch()]
    assert [shape.get_datalim(axes.transData).y1 for shape in hatched] == [pytest.approx(axes.get_ylim()[1])]


def test_the_hollow_mark_stands_where_more_negatives_begin_to_help_little() -> None:
    (axes,) = information_figure({"student": bounds(0, 0.5, 0.6, 0.65)}).axes
    hollow = [line.get_xydata().tolist() for line in axes.get_lines() if line.get_markerfacecolor() == "white"]
    assert hollow == [[[2.0, 0.5]]]
    assert not [
        line
        for line in information_figure({"teacher": bounds(0, 0.6, 1.3, 2.0)}).axes[0].get_lines()
        if line.get_markerfacecolor() == "white"
    ]


def over_time(held_out: bool = True) -> InformationOverTime:
    steps = np.array([5, 10])
    none = Series(steps[:0], np.array([]))
    measured = {side: Series(steps, np.array([1.0, 2.0])) if held_out else none for side in ("image", "text")}
    training = Series(steps, np.array([-0.2, 1.0]))
    return InformationOverTime(measured, 6.9 if held_out else math.nan, 1000 if held_out else 0, training, 4.6, 100)


def test_moving_to_a_step_equals_a_new_figure() -> None:
    early, late = {"student": bounds(0, 0.1, 0.1)}, {"student": bounds(0, 0.6, 0.9)}
    moved = information_over_time_figure(over_time(), early, 5)
    assert information_over_time_figure(over_time(), late, 10, moved) is moved
    redrawn = information_over_time_figure(over_time(), late, 10)
    for one, other in zip(moved.axes, redrawn.axes, strict=True):
        assert {name: ys for name, ys in lines(one).items() if name[0] != "_"} == {
            name: ys for name, ys in lines(other).items() if name[0] != "_"
        }
        assert one.get_title(loc="left") == other.get_title(loc="left")
        assert one.get_ylim() == other.get_ylim()
    assert [line.get_xdata() for line in moved.axes[0].get_lines() if line.get_gid() == "step"] == [[10, 10]]
    assert len(moved.axes[1].get_lines()) == len(redrawn.axes[1].get_lines())


def test_only_batches_before_an_evaluation_and_only_the_probe_without_icl() -> None:
    figure = information_over_time_figure(over_time(held_out=False), {"student": bounds(0, 0.1)}, 5)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["limit for 100 pairs"]
    assert len(information_over_time_figure(None, {"student": bounds(0, 0.1)}, 5).axes) == 1
