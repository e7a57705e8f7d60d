"""Figures of several sweeps: agreement against cost, and differences side by side."""

import pytest

from workbench.figures.side_by_side import BudgetPoint, budget_figure, side_by_side_figure
from workbench.statistics.intervals import Gain
from workbench.statistics.rank_agreement import Agreement
from workbench.views.metrics import metric_label


def agreed(tau: float) -> Agreement:
    return Agreement(tau, tau - 0.2, min(1, tau + 0.1), 0.01, 0.001, 8)


def test_agreement_is_drawn_over_cost_with_the_steps_at_the_ticks():
    points = [
        BudgetPoint("80", 70.0, {"R@1": agreed(0.2)}, {"R@1": agreed(0.4)}),
        BudgetPoint("250", 220.0, {"R@1": agreed(0.5)}, {"R@1": agreed(0.7)}),
        BudgetPoint("1,000", 900.0, {"R@1": agreed(0.8)}, {}),
    ]
    figure = budget_figure(points)
    paper, last = figure.axes
    for axes, taus in ((paper, [0.2, 0.5, 0.8]), (last, [0.4, 0.7])):
        (line,) = [line for line in axes.lines if line.get_marker() == "o"]
        assert list(line.get_ydata()) == taus
        assert list(line.get_xdata()) == [70.0, 220.0, 900.0][: len(taus)]
        assert axes.get_xscale() == "log"
    assert [label.get_text() for label in paper.get_xticklabels()] == ["70\n(80)", "220\n(250)", "900\n(1,000)"]
    assert len(budget_figure([BudgetPoint("80", 70.0, {}, {"R@1": agreed(0.4)})]).axes) == 1
    with pytest.raises(ValueError, match="three cells"):
        budget_figure([BudgetPoint("80", 70.0, {}, {})])


def test_the_differences_of_two_sweeps_stand_side_by_side():
    def gain(mean: float) -> Gain:
        return Gain(mean, mean - 0.01, mean + 0.01, (mean,), "seeds")

    metric = metric_label("image_to_text_r1")
    gains = {
        "scenes": {metric.name: {"FD": gain(0.3), "ICL": gain(0.2)}},
        "emoji": {metric.name: {"FD": gain(0.1), "ICL": gain(-0.1)}},
    }
    (axes,) = side_by_side_figure([metric], gains, "alone").axes
    means = {line.get_marker(): [] for line in axes.lines if line.get_marker() in "oD"}
    for line in axes.lines:
        if line.get_marker() in means:
            means[line.get_marker()].append(line.get_xdata()[0])
    assert means == {"o": pytest.approx([30, 20]), "D": pytest.approx([10, -10])}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ICL", "FD"]
    with pytest.raises(ValueError, match="baseline"):
        side_by_side_figure([metric], {"scenes": {}}, "alone")
