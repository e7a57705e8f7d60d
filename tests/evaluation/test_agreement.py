"""Agreement with the teacher, against closed forms and brute force."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.embeddings import Embeddings
from workbench.evaluation.agreement import (
    affinity_entropy,
    affinity_kl,
    agreement,
    linear_cka,
    mutual_information_bounds,
)
from workbench.losses import build_loss


def unit(num_rows: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(num_rows, width, generator=generator, dtype=torch.float64), dim=1)


def pairs(num_pairs: int, width: int, seed: int, scale: float = 10.0) -> Embeddings:
    image = unit(num_pairs, width, seed)
    text = F.normalize(image + 0.5 * unit(num_pairs, width, seed + 1000), dim=1)
    return Embeddings(image.float(), text.float(), torch.tensor(scale))


def rotated(embeddings: Embeddings, seed: int) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(embeddings.width, embeddings.width, generator=generator))
    return Embeddings(embeddings.image_BD @ rotation, embeddings.text_BD @ rotation, embeddings.scale)


def test_equal_models_agree_fully() -> None:
    model = pairs(50, 8, 0)
    found = agreement(model, model)
    cross = float((model.image_BD * model.text_BD).sum(1).mean())
    assert found == pytest.approx(
        {"similarity_single": 1.0, "similarity_cross": cross, "cka": 1.0, "affinity_kl": 0.0}, abs=1e-6
    )


def test_a_rotation_fools_the_cosines_and_nothing_else() -> None:
    teacher = pairs(200, 32, 1)
    student = rotated(teacher, 2)
    found = agreement(student, teacher)
    assert abs(found["similarity_single"]) < 0.2
    assert abs(found["similarity_cross"]) < 0.2
    assert found["cka"] == pytest.approx(1.0, abs=1e-5)
    assert found["affinity_kl"] == pytest.approx(0.0, abs=1e-5)


def test_the_cosines_are_means_over_pairs_and_modalities() -> None:
    student, teacher = pairs(30, 6, 3), pairs(30, 6, 4)

    def mean_dot(first: Tensor, second: Tensor) -> float:
        rows = zip(first.tolist(), second.tolist(), strict=True)
        return sum(sum(a * b for a, b in zip(x, y, strict=True)) for x, y in rows) / 30

    single = mean_dot(student.image_BD, teacher.image_BD) + mean_dot(student.text_BD, teacher.text_BD)
    cross = mean_dot(student.image_BD, teacher.text_BD) + mean_dot(student.text_BD, teacher.image_BD)
    found = agreement(student, teacher)
    assert found["similarity_single"] == pytest.approx(single / 2, abs=1e-6)
    assert found["similarity_cross"] == pytest.approx(cross / 2, abs=1e-6)


def test_the_cosines_take_the_projection_or_are_left_out() -> None:
    student, teacher = pairs(30, 6, 3), pairs(30, 9, 4)
    assert set(agreement(student, teacher)) == {"cka", "affinity_kl"}
    found = agreement(student, teacher, projected=teacher)
    assert found["similarity_single"] == pytest.approx(1.0, abs=1e-6)
    assert found["affinity_kl"] == agreement(student, teacher)["affinity_kl"]  # of the student itself


def u_statistic(first: Tensor, second: Tensor) -> float:
    """Song et al. 2012, equation 5, from N x N kernels."""
    num = len(first)
    kernel, other = first @ first.T, second @ second.T
    kernel, other = kernel - kernel.diag().diag(), other - other.diag().diag()
    ones = torch.ones(num, dtype=torch.float64)
    total = (kernel @ other).trace() + (ones @ kernel @ ones) * (ones @ other @ ones) / (num - 1) / (num - 2)
    return float(total - 2 / (num - 2) * (ones @ kernel @ other @ ones)) / (num * (num - 3))


@pytest.mark.parametrize(("num", "width"), [(5, 12), (40, 12), (4, 3)])
def test_cka_agrees_with_kernels(num: int, width: int) -> None:
    first, second = unit(num, width, 5) + 0.3, unit(num, 7, 6)
    second[:, : min(7, width)] += first[:, : min(7, width)]
    own = u_statistic(first, first) * u_statistic(second, second)
    assert linear_cka(first, second) == pytest.approx(u_statistic(first, second) / math.sqrt(own), rel=1e-9)


def test_cka_ignores_rotation_shift_and_scale_but_not_shear() -> None:
    first = unit(60, 10, 7)
    rotation, _ = torch.linalg.qr(unit(10, 10, 8))
    assert linear_cka(first, 3 * first @ rotation + 5) == pytest.approx(1.0, abs=1e-9)
    stretch = torch.ones(10, dtype=torch.float64)
    stretch[0] = 6
    assert linear_cka(first, first * stretch) < 0.8


def test_cka_of_unrelated_embeddings_is_0_on_average_however_few() -> None:
    values = [linear_cka(unit(20, 64, 2 * seed), unit(20, 64, 2 * seed + 1)) for seed in range(200)]
    mean = sum(values) / 200
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / 199)
    assert abs(mean) < 3 * spread / math.sqrt(200)
    assert spread < 0.2


def test_cka_of_a_collapsed_model_is_0() -> None:
    constant = unit(1, 8, 9).expand(30, 8)
    assert linear_cka(constant, unit(30, 8, 10)) == 0.0
    assert linear_cka(unit(30, 8, 10), constant.float()) == 0.0


def rows_kl(student: Tensor, teacher: Tensor) -> float:
    total = 0.0
    for s_row, t_row in zip(student.tolist(), teacher.tolist(), strict=True):
        s_sum, t_sum = sum(map(math.exp, s_row)), sum(map(math.exp, t_row))
        for s, t in zip(s_row, t_row, strict=True):
            p, q = math.exp(t) / t_sum, math.exp(s) / s_sum
            total += p * math.log(p / q)
    return total / len(student)


def logits(model: Embeddings) -> Tensor:
    return model.scale.double() * (model.image_BD.double() @ model.text_BD.double().T)


def test_affinity_kl_is_from_teacher_to_student_each_at_its_own_scale() -> None:
    student, teacher = pairs(25, 6, 11, scale=5.0), pairs(25, 9, 12, scale=20.0)
    s, t = logits(student), logits(teacher)
    expected = (rows_kl(s, t) + rows_kl(s.T, t.T)) / 2
    assert affinity_kl(student, teacher) == pytest.approx(expected, rel=1e-5)
    assert affinity_kl(student, teacher) != pytest.approx(affinity_kl(teacher, student), rel=0.05)


def test_affinities_do_not_grow_with_the_number_of_pairs() -> None:
    student, teacher = pairs(1000, 8, 13), pairs(1000, 8, 14)
    repeat = [
        Embeddings(model.image_BD.repeat(3, 1), model.text_BD.repeat(3, 1), model.scale) for model in (student, teacher)
    ]
    assert affinity_kl(*repeat) == pytest.approx(affinity_kl(student, teacher), rel=1e-6)
    assert affinity_entropy(repeat[0]) == pytest.approx(affinity_entropy(student), rel=1e-6)


def test_entropy_runs_from_one_hot_to_uniform() -> None:
    eye = torch.eye(16)
    assert affinity_entropy(Embeddings(eye, eye, torch.tensor(100.0))) == pytest.approx(0.0, abs=1e-6)
    assert affinity_entropy(Embeddings(eye, eye, torch.tensor(1e-9))) == pytest.approx(math.log(16), rel=1e-6)
    model = pairs(20, 5, 15)
    probability = logits(model).softmax(1)
    expected = -float((probability * probability.log()).sum(1).mean())
    assert affinity_entropy(model) == pytest.approx(expected, rel=1e-5)


def test_too_few_or_unequal_pairs_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        agreement(pairs(3, 4, 0), pairs(3, 4, 1))
    with pytest.raises(ValueError, match="student 10, teacher 11"):
        agreement(pairs(10, 4, 0), pairs(11, 4, 1))


def random_pairs(seed: int, num_pairs: int, width: int = 16) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    image, text = (F.normalize(torch.randn(num_pairs, width, generator=generator), dim=1) for _ in range(2))
    return Embeddings(image, text, torch.tensor(20.0))


def test_the_bounds_are_log_of_the_negatives_minus_the_loss_icl_minimizes() -> None:
    student, teacher = random_pairs(1, 50), random_pairs(2, 50)
    found = mutual_information_bounds(student, teacher, 20.0)
    loss = float(build_loss("icl", scale=20.0)(student, teacher))
    mean = (found["mutual_information_image"] + found["mutual_information_text"]) / 2
    assert mean == pytest.approx(math.log(49) - loss, abs=1e-5)


def test_a_perfect_student_reaches_the_largest_bound() -> None:
    teacher = random_pairs(1, 200, width=64)
    knowing = Embeddings(teacher.text_BD, teacher.image_BD, teacher.scale)
    found = mutual_information_bounds(knowing, teacher, 1000.0)
    assert all(bound == pytest.approx(math.log(199), abs=1e-4) for bound in found.values())


def test_a_random_student_has_a_bound_near_zero() -> None:
    blank = Embeddings(torch.ones(300, 16) / 4, torch.ones(300, 16) / 4, torch.tensor(1.0))
    found = mutual_information_bounds(blank, random_pairs(1, 300), 0.0)
    assert all(bound == pytest.approx(math.log(299 / 300), abs=1e-5) for bound in found.values())


def test_blocks_of_1000_weigh_by_their_size() -> None:
    student, teacher = random_pairs(1, 2700), random_pairs(2, 2700)
    whole = mutual_information_bounds(student, teacher, 20.0)["mutual_information_image"]
    parts = []
    for rows in (slice(0, 1000), slice(1000, 2000), slice(2000, 2700)):
        part = [Embeddings(side.image_BD[rows], side.text_BD[rows], side.scale) for side in (student, teacher)]
        size = len(part[0])
        parts.append(size * mutual_information_bounds(*part, 20.0)["mutual_information_image"])
    assert whole == pytest.approx(sum(parts) / 2700, abs=1e-5)


def test_unpaired_or_single_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        mutual_information_bounds(random_pairs(1, 3), random_pairs(2, 4), 1.0)
    with pytest.raises(ValueError, match="at least 2"):
        mutual_information_bounds(random_pairs(1, 1), random_pairs(2, 1), 1.0)
