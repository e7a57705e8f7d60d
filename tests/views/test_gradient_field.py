import numpy as np
import pytest
import torch

from workbench.views.gradient_field import gradient_field, image_gradient, moved, plane_pairs


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
def test_the_field_is_the_gradient_of_clip_at_every_place(scale: float) -> None:
    student, _ = plane_pairs(5)
    places_ND = np.random.default_rng(0).normal(size=(6, 2))
    found_ND = image_gradient(student, 3, scale, places_ND)
    for place_D, found_D in zip(places_ND, found_ND, strict=True):
        assert found_D == pytest.approx(autograd(student, 3, scale, place_D), abs=1e-9 * scale)


def test_the_price_is_gds_term_and_0_where_student_and_teacher_are_one() -> None:
    student, teacher = plane_pairs(4)
    view = gradient_field(student, teacher, 1, 5.0, 8.0)
    ours, theirs = autograd(student, 1, 5.0, student.image_BD[1]), autograd(teacher, 1, 8.0, teacher.image_BD[1])
    assert view.price == pytest.approx(((ours - theirs) ** 2).sum())
    assert view.student_pull_D == pytest.approx(-ours)
    assert gradient_field(teacher, teacher, 1, 5.0, 5.0).price == pytest.approx(0, abs=1e-12)
    row, column = 3, 14
    place_D = np.array([view.axis_N[column], view.axis_N[row]])
    assert view.pull_NND[row, column] == pytest.approx(-autograd(student, 1, 5.0, place_D))


def test_moving_one_picture_leaves_the_others() -> None:
    student, _ = plane_pairs(4)
    other = moved(student, 2, np.pi / 2)
    assert other.image_BD[2] == pytest.approx([0, 1])
    assert np.delete(other.image_BD, 2, 0) == pytest.approx(np.delete(student.image_BD, 2, 0))


def test_what_cannot_be_is_refused() -> None:
    student, teacher = plane_pairs(3)
    with pytest.raises(ValueError, match="above 0"):
        gradient_field(student, teacher, 0, 0.0, 1.0)
    with pytest.raises(ValueError, match="0 to 2"):
        gradient_field(student, teacher, 3, 1.0, 1.0)
    with pytest.raises(ValueError, match="2 to 12"):
        plane_pairs(1)
