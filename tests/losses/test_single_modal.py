import pytest
import torch

from workbench.losses import build_loss


@pytest.mark.parametrize("keep_diagonal", [True, False])
@pytest.mark.parametrize("scale", [5.0, 50.0])
def test_it_matches_images_among_images_and_texts_among_texts(
    embeddings, brute_force, keep_diagonal: bool, scale: float
) -> None:
    student, teacher = embeddings(1), embeddings(2, width=7, scale=30.0)  # widths may differ: no projection is used
    loss = build_loss("single_modal", scale=scale, keep_diagonal=keep_diagonal)
    expected = brute_force.single_modal(student, teacher, scale, 50.0, keep_diagonal)
    assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("keep_diagonal", [True, False])
def test_a_student_equal_to_the_teacher_has_its_entropy_and_no_gradient(
    embeddings, brute_force, keep_diagonal: bool
) -> None:
    student, teacher = embeddings(1), embeddings(1)
    loss = build_loss("single_modal", keep_diagonal=keep_diagonal)(student, teacher)
    tables = [brute_force.log_affinity(x, x, 50.0, keep_diagonal) for x in (teacher.image_BD, teacher.text_BD)]
    entropy = sum(brute_force.cross_entropy(table, table) for table in tables)
    assert loss.item() == pytest.approx(entropy, rel=1e-12)
    gradients = torch.autograd.grad(loss, (student.image_BD, student.text_BD))
    assert all(gradient.abs().max() < 1e-12 for gradient in gradients)


def test_the_diagonal_dominates_at_tinyclips_scale(embeddings) -> None:
    student, teacher = embeddings(1, 64, 512), embeddings(2, 64, 512)
    kept, masked = (build_loss("single_modal", keep_diagonal=keep)(student, teacher) for keep in (True, False))
    assert kept.item() < 1e-9
    assert masked.item() > 1


def test_gradients_without_the_diagonal_are_those_of_finite_differences(embeddings) -> None:
    student, teacher = embeddings(1, num_pairs=4, width=3), embeddings(2, num_pairs=4)
    loss = build_loss("single_modal", keep_diagonal=False)
    inputs = (student.image_BD, student.text_BD)
    assert torch.autograd.gradcheck(lambda *_: loss(student, teacher), inputs)
