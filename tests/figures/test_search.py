"""Figures of searches and of a study's settings."""

import numpy as np
import pytest

from workbench.figures.search import (
    FADED,
    effects_figure,
    forecast_figure,
    history_figure,
    importance_figure,
    parallel_figure,
    pareto_figure,
)
from workbench.statistics.intervals import Gain
from workbench.statistics.rank_agreement import rank_agreement
from workbench.statistics.verdict import Effect
from workbench.views.metrics import metric_label
from workbench.views.study import Parallel, ParallelAxis, Point, SearchPoint

METRIC = metric_label("image_to_text_r1")


def dots(axes, marker: str) -> list[tuple[float, float]]:
    lines = [line for line in axes.get_lines() if line.get_marker() == marker]
    return [pair for line in lines for pair in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def test_a_search_shows_what_was_tried_and_the_best_so_far():
    tried = [
        SearchPoint(0, "t0000", 0.30, 0.30, "finished", 3),
        SearchPoint(1, "t0001", 0.40, 0.30, "missing", 1),
        SearchPoint(2, "t0002", None, 0.30, "diverged", 0),
        SearchPoint(3, "t0003", 0.35, 0.35, "finished", 3),
    ]
    (axes,) = history_figure(tried, METRIC).axes
    assert [(x, round(y)) for x, y in dots(axes, "o")] == [(0, 30), (1, 40), (3, 35)]
    assert [x for x, _ in dots(axes, "x")] == [2]
    hollow = [line.get_markerfacecolor() == "white" for line in axes.get_lines() if line.get_marker() == "o"]
    assert hollow == [False, True, False]


def test_effects_shares_and_fronts_hold_their_numbers():
    effects = [Effect("a", level, Gain(mean, mean - 0.01, mean + 0.01, (mean,), "seeds")) for level, mean in
               ((0, -0.02), (1, 0.02))]  # fmt: skip
    (axes,) = effects_figure(effects, METRIC).axes
    assert [round(y, 6) for _, y in dots(axes, "o")] == [-2, 2]
    bars = importance_figure({"a": 0.7, "b": 0.3}, "a guess").axes[0].patches
    assert [round(bar.get_width()) for bar in bars] == [30, 70]
    points = [Point("small", (0.3, 1e6), True), Point("large", (0.4, 2e6), True), Point("worse", (0.2, 2e6), False)]
    front = pareto_figure(points, [METRIC, metric_label("num_params")]).axes[0]
    assert {text.get_text() for text in front.texts} == {"small", "large"}
    assert (front.get_xlabel(), front.get_ylabel()) == ("parameters (M)", "validation image→text R@1 (%)")
    assert sorted(dots(front, "o")) == [(1.0, 30.0), (2.0, 20.0), (2.0, 40.0)]


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="no configuration has a finished run"):
        history_figure([SearchPoint(0, "t0000", None, None, "failed", 0)], METRIC)
    with pytest.raises(ValueError, match="all objectives"):
        pareto_figure([], [METRIC, metric_label("num_params")])


def test_lines_that_a_brush_leaves_out_are_pale() -> None:
    axes_A = (ParallelAxis("w", "w", np.array([1.0, 2.0])), ParallelAxis("m", "m (%)", np.array([5.0, 3.0])))
    axes = parallel_figure(Parallel(("a", "b"), axes_A), np.array([True, False]), "m").axes[0]
    colors = {tuple(line.get_ydata()): line.get_color() for line in axes.get_lines() if len(line.get_ydata()) == 2}
    assert colors[1, 0] == FADED
    assert colors[0, 1] != FADED
    assert axes.get_title(loc="left") == "1 of 2 cells; color: m (%)"


def test_a_forecast_is_drawn_over_its_steps() -> None:
    agreed = rank_agreement([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    assert agreed is not None
    axes = forecast_figure({40: agreed, 20: agreed}).axes[0]
    assert axes.get_lines()[0].get_xydata().tolist() == [[20, agreed.tau], [40, agreed.tau]]
    with pytest.raises(ValueError, match="three cells"):
        forecast_figure({})
