import numpy as np
import pytest

from workbench.notebook import FieldExplorer, GradientExplorer
from workbench.notebook.explorer import open_run
from workbench.runs.snapshots import PLACES, Gradients, read_snapshot_history

VECTORS = {"clip": (3.0, 0.0), "fd": (0.0, 4.0), "icl": (-1.0, 1.0)}


def snapshot(step: int, *losses: str) -> Gradients:
    vectors_KP = np.array([VECTORS[loss] for loss in losses])
    return Gradients(step, losses, dict.fromkeys(PLACES, vectors_KP @ vectors_KP.T))


def test_a_step_has_its_shares_conflicts_and_figure() -> None:
    explorer = GradientExplorer([snapshot(9, "clip", "fd", "icl"), snapshot(1, "clip", "fd")])
    assert explorer.selection["step"] == 9
    assert explorer.selection["conflicts"][0] == ("clip", "icl", pytest.approx(-np.sqrt(0.5)))
    before = explorer.image.value
    explorer.step.value = 1
    assert explorer.image.value != before
    assert explorer.selection == {"step": 1, "shares": pytest.approx({"clip": 3 / 7, "fd": 4 / 7}), "conflicts": []}
    assert explorer.error is None


def test_dragging_updates_the_figure_in_place_and_equals_a_new_one() -> None:
    snapshots = [snapshot(step, "clip", "fd", "icl") for step in (1, 5, 9)]
    explorer = GradientExplorer(snapshots)
    figure = explorer.figure
    explorer.step.value = 5
    assert explorer.figure is figure
    moved = explorer.image.value
    explorer.refresh()
    assert explorer.figure is not figure
    assert explorer.image.value == moved


def test_weights_give_the_target_shares() -> None:
    explorer = GradientExplorer([snapshot(1, "clip", "fd")])
    explorer.wanted["clip"].value, explorer.wanted["fd"].value = 0.5, 0.25
    weights = explorer.weights
    norms = {loss: np.linalg.norm(np.array(VECTORS[loss]) * np.sqrt(2)) for loss in weights}
    assert weights["clip"] == 1
    assert weights["fd"] * norms["fd"] / norms["clip"] == pytest.approx(0.5, rel=1e-3)
    assert "[loss.fd]" in explorer.note.value


def test_the_weights_of_a_run_are_those_it_was_trained_with() -> None:
    run = open_run("example-clip-kd")
    explorer = GradientExplorer(run)
    last = read_snapshot_history(run, Gradients).snapshots[-1]
    for loss, share in zip(last.losses, last.share_K.tolist(), strict=True):
        explorer.wanted[loss].value = share
    shares = {loss: slider.value for loss, slider in explorer.wanted.items()}
    given = explorer._given()
    assert given["fd"] == pytest.approx(2000 * 512 / 512, rel=1e-4)
    for loss, weight in explorer.weights.items():
        if loss != "clip" and shares[loss] > 0.05:
            assert weight == pytest.approx(given[loss], rel=0.03)


def test_without_gradients_the_error_names_the_setting(tmp_path) -> None:
    from workbench.runs.directory import create_run

    explorer = GradientExplorer(create_run(tmp_path, "plain", ""))
    assert "log.diagnose_every_steps" in explorer.message.value
    with pytest.raises(ValueError, match="diagnose_every_steps"):
        _ = explorer.selection
    missing = GradientExplorer("example-clip-kb", tmp_path)
    assert "example-clip-kd" in missing.message.value


def test_the_field_follows_the_angle_of_the_image() -> None:
    explorer = FieldExplorer()
    drawn = explorer.angle.value
    gd_loss = explorer.selection["gd_loss"]
    explorer.angle.value = drawn + 90 if drawn < 90 else drawn - 90
    assert explorer.selection["gd_loss"] != pytest.approx(gd_loss)
    explorer.index.value = 2
    x, y = explorer.view.student.image_BD[2]
    assert explorer.angle.value == pytest.approx(np.rad2deg(np.arctan2(y, x)), abs=0.6)
    explorer.teacher_scale.value = 100
    assert explorer.view.teacher_scale == 100
    assert explorer.error is None
