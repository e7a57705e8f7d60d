import json

import numpy as np
import pytest
import torch

from workbench.events import StepDone
from workbench.runs.snapshots import PLACES, Gradients
from workbench.views.gradients import (
    applied_weights,
    gradient_field,
    gradients_view,
    image_gradient,
    moved,
    plane_pairs,
)

# Two weights: the gradient of clip is along the first, of fd along the second, of icl opposite to clip.
VECTORS = {"clip": (3.0, 0.0), "fd": (0.0, 4.0), "icl": (-1.0, 1.0)}


def snapshot(step: int, *losses: str) -> Gradients:
    vectors_KP = np.array([VECTORS[loss] for loss in losses])
    scale = {place: factor for factor, place in enumerate(PLACES, start=1)}
    return Gradients(step, losses, {p: (scale[p] * vectors_KP) @ (scale[p] * vectors_KP).T for p in PLACES})


def test_norms_and_shares_are_by_step() -> None:
    view = gradients_view([snapshot(1, "clip", "fd"), snapshot(120, "clip", "fd", "icl")])
    assert view.steps == [1, 120]
    assert [(norms.step, norms.loss) for norms in view.norms][:3] == [(1, "clip"), (1, "fd"), (120, "clip")]
    clip, fd = view.norms[:2]
    assert (clip.image, clip.text, clip.image_tower, clip.text_tower) == pytest.approx((3, 6, 9, 12))
    assert (clip.share, fd.share) == pytest.approx((3 / 7, 4 / 7))


def test_a_loss_that_came_on_later_has_fewer_points() -> None:
    view = gradients_view([snapshot(1, "clip", "fd"), snapshot(120, "clip", "fd", "icl")])
    assert list(view.shares) == ["clip", "fd", "icl"]
    assert view.shares["icl"].step.tolist() == [120]
    assert view.shares["clip"].value.tolist() == pytest.approx([3 / 7, 3 / (7 + np.sqrt(2))])


def test_conflicts_are_of_the_newest_step_most_negative_first() -> None:
    view = gradients_view([snapshot(1, "icl", "clip"), snapshot(120, "clip", "fd", "icl")])
    root = np.sqrt(0.5)
    assert (view.step, view.losses) == (120, ("clip", "fd", "icl"))
    assert view.tower_cosine_KK == pytest.approx(np.array([[1, 0, -root], [0, 1, root], [-root, root, 1]]))
    assert [(pair.first, pair.second) for pair in view.conflicts] == [("clip", "icl")]
    assert view.conflicts[0].cosine == pytest.approx(-root)


def test_many_steps_are_thinned_to_a_few_with_both_ends() -> None:
    view = gradients_view([snapshot(step, "clip") for step in range(1, 101)])
    assert view.thinned(4) == [1, 34, 67, 100]
    assert view.thinned(200) == list(range(1, 101))


def test_json_holds_plain_values() -> None:
    document = json.loads(json.dumps(gradients_view([snapshot(1, "clip")]).to_json()))
    assert document["pulls"] == [
        {"step": 1, "loss": "clip", "image": 3, "text": 6, "image_tower": 9, "text_tower": 12, "share": 1}
    ]
    assert document["tower_cosines"] == document["embedding_cosines"] == [[1]]


def test_without_snapshots_the_error_names_the_setting() -> None:
    with pytest.raises(ValueError, match=r"--set log.diagnose_every_steps=50"):
        gradients_view([])


def test_cosines_over_training_need_both_losses_active() -> None:
    view = gradients_view([snapshot(1, "clip", "icl"), snapshot(120, "clip", "fd", "icl")])
    root = np.sqrt(0.5)
    assert view.cosines["clip", "icl"].step.tolist() == [1, 120]
    assert view.cosines["clip", "icl"].value == pytest.approx([-root, -root])
    assert view.cosines["clip", "fd"].step.tolist() == [120]
    assert view.cosines["icl", "fd"].value == pytest.approx([root])


def test_an_earlier_step_can_be_chosen() -> None:
    snapshots = [snapshot(1, "icl", "clip"), snapshot(120, "clip", "fd", "icl")]
    view = gradients_view(snapshots, 1)
    assert (view.step, view.losses) == (1, ("icl", "clip"))
    assert view.steps == [1, 120]
    with pytest.raises(ValueError, match="after 1, 120"):
        gradients_view(snapshots, 2)


def test_the_applied_weight_is_weighted_over_unweighted_loss() -> None:
    numbers = dict.fromkeys(("learning_rate", "grad_norm", "step_time_s", "pairs_per_s", "elapsed_s", "peak_mb"), 1.0)
    terms, weighted = {"clip": 2.0, "fd": 0.5, "gd": 0.0}, {"clip": 2.0, "fd": 5.0, "gd": 0.0}
    event = StepDone(run="a", step=4, loss=7.0, terms=terms, weighted=weighted, scales={}, **numbers)
    assert applied_weights([event], 4) == {"clip": 1, "fd": 10}
    assert applied_weights([event], 5) == {}


def autograd(pairs, index: int, scale: float, place_D: np.ndarray) -> np.ndarray:
    image_BD = torch.tensor(pairs.image_BD)
    image_BD[index] = torch.tensor(place_D)
    image_BD.requires_grad_()
    logits_BB = scale * image_BD @ torch.tensor(pairs.text_BD).T
    own_B = torch.arange(len(pairs))
    loss = torch.nn.functional.cross_entropy
    total = (loss(logits_BB, own_B, reduction="sum") + loss(logits_BB.T, own_B, reduction="sum")) / 2
    return torch.autograd.grad(total, image_BD)[0][index].numpy()


@pytest.mark.parametrize("scale", [1.0, 7.0, 60.0])
def test_the_field_is_the_gradient_of_clip_at_every_grid_point(scale: float) -> None:
    student, _ = plane_pairs(5)
    places_ND = np.random.default_rng(0).normal(size=(6, 2))
    found_ND = image_gradient(student, 3, scale, places_ND)
    for place_D, found_D in zip(places_ND, found_ND, strict=True):
        assert found_D == pytest.approx(autograd(student, 3, scale, place_D), abs=1e-9 * scale)


def test_the_gd_loss_is_0_for_equal_models() -> None:
    student, teacher = plane_pairs(4)
    view = gradient_field(student, teacher, 1, 5.0, 8.0)
    ours, theirs = autograd(student, 1, 5.0, student.image_BD[1]), autograd(teacher, 1, 8.0, teacher.image_BD[1])
    assert view.gd_loss == pytest.approx(((ours - theirs) ** 2).sum())
    assert view.student_descent_D == pytest.approx(-ours)
    assert gradient_field(teacher, teacher, 1, 5.0, 5.0).gd_loss == pytest.approx(0, abs=1e-12)
    row, column = 3, 14
    place_D = np.array([view.axis_N[column], view.axis_N[row]])
    assert view.descent_NND[row, column] == pytest.approx(-autograd(student, 1, 5.0, place_D))


def test_moving_one_image_keeps_the_others() -> None:
    student, _ = plane_pairs(4)
    other = moved(student, 2, np.pi / 2)
    assert other.image_BD[2] == pytest.approx([0, 1])
    assert np.delete(other.image_BD, 2, 0) == pytest.approx(np.delete(student.image_BD, 2, 0))


def test_invalid_arguments_are_refused() -> None:
    student, teacher = plane_pairs(3)
    with pytest.raises(ValueError, match="must be positive"):
        gradient_field(student, teacher, 0, 0.0, 1.0)
    with pytest.raises(ValueError, match="0 to 2"):
        gradient_field(student, teacher, 3, 1.0, 1.0)
    with pytest.raises(ValueError, match="2 to 12"):
        plane_pairs(1)
