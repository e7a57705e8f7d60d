"""Figures of affinity matrices, their sharpness, and GD's weights."""

import numpy as np
import pytest

from workbench.figures.affinity import Panel, affinity_figure, gd_weights_figure, mark, panel_at, sharpness_figure
from workbench.views.affinity import Sharpness


def test_matrices_share_one_scale_and_differences_another_around_0() -> None:
    one, other = np.array([[0.0, 0.2], [0.4, 0.1]]), np.array([[0.9, 0.3], [0.0, 0.5]])
    figure = affinity_figure([Panel("t", one), Panel("s", other), Panel("d", other - one, True)], "affinity")
    scales = [axes.images[0].get_clim() for axes in figure.axes if axes.images]
    assert scales == [(0.0, 0.9), (0.0, 0.9), pytest.approx((-0.9, 0.9))]
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.images] == ["t", "s", "d"]


def test_every_place_of_a_panel_is_its_cell_and_the_mark_moves_to_it() -> None:
    matrix = np.arange(12.0).reshape(3, 4)
    figure = affinity_figure([Panel("t", matrix), Panel("d", matrix, True)], "affinity", (0, 0))
    for axes in (axes for axes in figure.axes if axes.images):
        for row in range(3):
            for column in range(4):
                x, y = figure.transFigure.inverted().transform(axes.transData.transform((column + 0.2, row - 0.3)))
                assert panel_at(figure, x, 1 - y) == (row, column)
    assert panel_at(figure, 0.001, 0.001) is None
    mark(figure, (2, 3))
    assert {patch.get_xy() for axes in figure.axes if axes.images for patch in axes.patches} == {(2.5, 1.5)}


def test_the_curve_of_sharpness_marks_each_models_own_scale() -> None:
    scale_N = np.array([1.0, 10.0, 100.0])
    view = Sharpness(scale_N, 8, np.array([7.0, 4.0, 1.0]), None, 10.0, None)
    axes = sharpness_figure(view).axes[0]
    assert [line.get_label() for line in axes.get_lines()][:1] == ["student"]
    assert axes.get_lines()[1].get_xydata().tolist() == [[10.0, 4.0]]


def test_weights_are_drawn_over_their_scales() -> None:
    axes = gd_weights_figure(np.array([1.0, 10.0]), {"paper": np.array([1.0, 0.1])}).axes[0]
    assert axes.get_yscale() == "log"
    assert axes.get_lines()[0].get_xydata().tolist() == [[1, 1], [10, 0.1]]
