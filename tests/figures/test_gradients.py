from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from workbench.figures.gradients import gradient_field_figure, gradients_figure, gradients_over_time_figure
from workbench.figures.style import palette, save_figure
from workbench.runs.snapshots import PLACES, Gradients
from workbench.views.gradients import GradientsView, gradient_field, gradients_view, plane_pairs

VECTORS = {"clip": (3.0, 0.0), "fd": (0.0, 4.0), "icl": (-1.0, 1.0), "gd": (2.0, 2.0)}


def view(*losses: str, steps: tuple[int, ...] = (1, 120, 240)) -> GradientsView:
    vectors_KP = np.array([VECTORS[loss.split("#")[0]] for loss in losses])
    return gradients_view([Gradients(s, losses, dict.fromkeys(PLACES, vectors_KP @ vectors_KP.T)) for s in steps])


def test_every_loss_has_a_line_of_its_shares_in_percent() -> None:
    left = gradients_figure(view("clip", "fd", "icl")).axes[0]
    lines = {line.get_label(): line for line in left.get_lines()}
    total = 7 + np.sqrt(2)
    assert list(lines["clip"].get_xdata()) == [1, 120, 240]
    assert list(lines["fd"].get_ydata()) == pytest.approx([400 / total] * 3)
    assert left.get_ylim()[0] == 0
    assert left.get_ylabel() == "share of the gradient norm (%)"
    assert lines["icl"].get_color() == palette(["clip", "fd", "icl"])["icl"]


def test_the_key_is_in_the_order_of_the_newest_shares() -> None:
    left = gradients_figure(view("icl", "clip", "fd")).axes[0]
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["fd", "clip", "icl"]


def test_the_heatmap_holds_each_pair_once_with_its_cosine() -> None:
    figure = gradients_figure(view("clip", "fd", "icl"))
    right = next(
        axes for axes in figure.axes if axes.get_title(loc="left").startswith("Gradient conflicts between losses")
    )
    texts = {tuple(np.floor(text.get_position())): text.get_text() for text in right.texts}
    assert texts == {(0, 0): "0.00", (0, 1): "\N{MINUS SIGN}0.71", (1, 1): "0.71"}
    assert [tick.get_text() for tick in right.get_xticklabels()] == ["clip", "fd"]
    assert [tick.get_text() for tick in right.get_yticklabels()] == ["fd", "icl"]
    assert right.get_title(loc="left") == "Gradient conflicts between losses (step 240)"


def test_conflict_is_red_agreement_is_blue_and_0_is_white() -> None:
    figure = gradients_figure(view("clip", "fd", "icl"))
    mesh = next(axes for axes in figure.axes if axes.texts).collections[0]
    fighting, nothing, agreeing = (mesh.cmap(mesh.norm(cosine))[:3] for cosine in (-0.8, 0.0, 0.8))
    assert fighting[0] > 1.5 * fighting[2]
    assert agreeing[2] > 1.5 * agreeing[0]
    assert min(nothing) > 0.9


def test_one_loss_has_shares_and_no_heatmap() -> None:
    assert len(gradients_figure(view("clip")).axes) == 1


def test_one_diagnosed_step_is_drawn_as_dots() -> None:
    left = gradients_figure(view("clip", "fd", steps=(1,))).axes[0]
    assert all(line.get_marker() not in ("", "None") for line in left.get_lines())
    assert left.get_xlim() == (0, 2)


def test_lines_of_one_color_differ_in_stroke_and_marker() -> None:
    losses = [f"{loss}#{number}" for number in range(3) for loss in VECTORS]
    lines = gradients_figure(view(*losses)).axes[0].get_lines()
    styles = {(to_rgb(line.get_color()), line.get_linestyle(), line.get_marker()) for line in lines}
    assert len(styles) == len(losses) == 12
    assert len({(color, stroke) for color, stroke, _ in styles}) == 12


def test_many_losses_make_a_larger_figure() -> None:
    losses = [f"{loss}#{number}" for number in range(2) for loss in VECTORS]
    few, many = gradients_figure(view("clip", "fd")), gradients_figure(view(*losses))
    assert few.get_size_inches().tolist() == [8.0, 3.4]
    assert many.get_size_inches().tolist() == [8.0 + 3 * 0.75, 3.4 + 3 * 0.25]


def test_the_same_view_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (save_figure(gradients_figure(view("clip", "fd")), tmp_path / f"{name}.svg") for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def snapshots(*losses: str) -> list[Gradients]:
    vectors = np.random.default_rng(0).normal(size=(3, len(losses), 5))
    return [Gradients(step, losses, dict.fromkeys(PLACES, v @ v.T)) for step, v in zip((1, 5, 9), vectors, strict=True)]


def test_moving_to_a_step_shows_its_cosines_and_only_where_the_same_losses_are_on() -> None:
    of = snapshots("clip", "fd", "icl")
    figure = gradients_over_time_figure(gradients_view(of))
    assert gradients_over_time_figure(gradients_view(of, 5), figure) is figure
    axes = next(axes for axes in figure.axes if axes.texts)
    expected = gradients_view(of, 5).tower_cosine_KK[1, 0]
    assert axes.texts[0].get_text() == f"{expected:z.2f}".replace("-", "\N{MINUS SIGN}")
    assert axes.get_title(loc="left") == "Gradient conflicts between losses (step 5)"
    assert axes.get_title(loc="center") == ""
    assert gradients_over_time_figure(gradients_view(snapshots("clip", "fd")), figure) is not figure
    assert len(gradients_over_time_figure(gradients_view(snapshots("clip"))).axes) == 2


def test_the_field_shows_its_gd_loss_and_arrows_point_along_descent() -> None:
    view = gradient_field(*plane_pairs(4), 1, 5.0, 8.0, num_places=5)
    axes = gradient_field_figure(view).axes[0]
    assert f"{view.gd_loss:.3g}" in axes.get_title(loc="left")
    quiver = axes.collections[0]
    direction = np.stack([quiver.U, quiver.V], axis=1)
    descents = view.descent_NND.reshape(-1, 2)
    assert direction == pytest.approx(descents / np.linalg.norm(descents, axis=1, keepdims=True))
