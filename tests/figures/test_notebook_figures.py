"""Figures of the notebooks against their views."""

import numpy as np
import pytest

from workbench.figures.affinity import Panel, affinity_figure, gd_weights_figure, mark, panel_at, sharpness_figure
from workbench.figures.gradients import gradient_field_figure, gradients_over_time_figure, move_to_step
from workbench.figures.pruning import pruned_figure, threshold_figure
from workbench.figures.search import FADED, forecast_figure, parallel_figure
from workbench.runs.snapshots import PLACES, Gradients
from workbench.views.affinity import Sharpness
from workbench.views.gradients import gradient_field, gradients_view, plane_pairs
from workbench.views.masks import Pruned, PrunedPoint
from workbench.views.metrics import metric_label
from workbench.views.parallel import Parallel, ParallelAxis


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


def snapshots(*losses: str) -> list[Gradients]:
    vectors = np.random.default_rng(0).normal(size=(3, len(losses), 5))
    return [Gradients(step, losses, dict.fromkeys(PLACES, v @ v.T)) for step, v in zip((1, 5, 9), vectors, strict=True)]


def test_moving_to_a_step_shows_its_cosines_and_only_where_the_same_losses_are_on() -> None:
    of = snapshots("clip", "fd", "icl")
    figure = gradients_over_time_figure(gradients_view(of))
    assert move_to_step(figure, gradients_view(of, 5))
    axes = next(axes for axes in figure.axes if axes.texts)
    expected = gradients_view(of, 5).tower_cosine_KK[1, 0]
    assert axes.texts[0].get_text() == f"{expected:z.2f}".replace("-", "\N{MINUS SIGN}")
    assert axes.get_title(loc="left") == "Gradient conflicts between losses (step 5)"
    assert axes.get_title(loc="center") == ""
    assert not move_to_step(figure, gradients_view(snapshots("clip", "fd")))
    assert len(gradients_over_time_figure(gradients_view(snapshots("clip"))).axes) == 2


def test_the_field_shows_its_gd_loss_and_arrows_point_along_descent() -> None:
    view = gradient_field(*plane_pairs(4), 1, 5.0, 8.0, num_places=5)
    axes = gradient_field_figure(view).axes[0]
    assert f"{view.gd_loss:.3g}" in axes.get_title(loc="left")
    quiver = axes.collections[0]
    direction = np.stack([quiver.U, quiver.V], axis=1)
    descents = view.descent_NND.reshape(-1, 2)
    assert direction == pytest.approx(descents / np.linalg.norm(descents, axis=1, keepdims=True))


def test_pruning_is_in_per_cent_hollow_while_masks_are_learnt() -> None:
    points = (PrunedPoint(1, 1, True, 0.1, 0.9), PrunedPoint(2, 1, False, 0.25, 0.8))
    axes = pruned_figure(Pruned(metric_label("image_to_text_r1"), "validation", points)).axes[0]
    assert axes.get_lines()[0].get_xydata().tolist() == [[10, 90], [25, 80]]
    assert [line.get_markerfacecolor() == "white" for line in axes.get_lines()[1:]] == [True, False]
    axes = threshold_figure(np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.6, 0.2]), 0.7, 0.55).axes[0]
    assert "60.0 %" in [text.get_text() for text in axes.texts]


def test_lines_that_a_brush_leaves_out_are_pale() -> None:
    axes_A = (ParallelAxis("w", "w", np.array([1.0, 2.0])), ParallelAxis("m", "m (%)", np.array([5.0, 3.0])))
    axes = parallel_figure(Parallel(("a", "b"), axes_A), np.array([True, False]), "m").axes[0]
    colors = {tuple(line.get_ydata()): line.get_color() for line in axes.get_lines() if len(line.get_ydata()) == 2}
    assert colors[1, 0] == FADED
    assert colors[0, 1] != FADED
    assert axes.get_title(loc="left") == "1 of 2 cells; color: m (%)"


def test_a_forecast_and_weights_are_drawn_over_their_steps_and_scales() -> None:
    from workbench.statistics.rank_agreement import rank_agreement

    agreed = rank_agreement([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    assert agreed is not None
    axes = forecast_figure({40: agreed, 20: agreed}).axes[0]
    assert axes.get_lines()[0].get_xydata().tolist() == [[20, agreed.tau], [40, agreed.tau]]
    with pytest.raises(ValueError, match="three cells"):
        forecast_figure({})
    axes = gd_weights_figure(np.array([1.0, 10.0]), {"paper": np.array([1.0, 0.1])}).axes[0]
    assert axes.get_yscale() == "log"
