import math

import pytest
import torch
import torch.nn.functional as F

from workbench.embeddings import Embeddings
from workbench.evaluation.agreement import mutual_information_bounds
from workbench.losses import build_loss


def pairs(seed: int, num_pairs: int, width: int = 16) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    image, text = (F.normalize(torch.randn(num_pairs, width, generator=generator), dim=1) for _ in range(2))
    return Embeddings(image, text, torch.tensor(20.0))


def test_the_bounds_are_log_of_the_negatives_minus_the_loss_icl_minimizes() -> None:
    student, teacher = pairs(1, 50), pairs(2, 50)
    found = mutual_information_bounds(student, teacher, 20.0)
    loss = float(build_loss("icl", scale=20.0)(student, teacher))
    mean = (found["mutual_information_image"] + found["mutual_information_text"]) / 2
    assert mean == pytest.approx(math.log(49) - loss, abs=1e-5)


def test_a_perfect_student_reaches_the_largest_bound() -> None:
    teacher = pairs(1, 200, width=64)
    knowing = Embeddings(teacher.text_BD, teacher.image_BD, teacher.scale)
    found = mutual_information_bounds(knowing, teacher, 1000.0)
    assert all(bound == pytest.approx(math.log(199), abs=1e-4) for bound in found.values())


def test_a_random_student_has_a_bound_near_zero() -> None:
    blank = Embeddings(torch.ones(300, 16) / 4, torch.ones(300, 16) / 4, torch.tensor(1.0))
    found = mutual_information_bounds(blank, pairs(1, 300), 0.0)
    assert all(bound == pytest.approx(math.log(299 / 300), abs=1e-5) for bound in found.values())


def test_blocks_of_1000_weigh_by_their_size() -> None:
    student, teacher = pairs(1, 2700), pairs(2, 2700)
    whole = mutual_information_bounds(student, teacher, 20.0)["mutual_information_image"]
    parts = []
    for rows in (slice(0, 1000), slice(1000, 2000), slice(2000, 2700)):
        part = [Embeddings(side.image_BD[rows], side.text_BD[rows], side.scale) for side in (student, teacher)]
        size = len(part[0])
        parts.append(size * mutual_information_bounds(*part, 20.0)["mutual_information_image"])
    assert whole == pytest.approx(sum(parts) / 2700, abs=1e-5)


def test_unpaired_or_single_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        mutual_information_bounds(pairs(1, 3), pairs(2, 4), 1.0)
    with pytest.raises(ValueError, match="at least 2"):
        mutual_information_bounds(pairs(1, 1), pairs(2, 1), 1.0)
