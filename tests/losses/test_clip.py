import math

import pytest
import torch

from workbench.embeddings import Embeddings
from workbench.losses import build_loss


def test_it_is_the_mean_cross_entropy_of_both_directions(embeddings, brute_force) -> None:
    student = embeddings(1)
    assert build_loss("clip")(student).item() == pytest.approx(brute_force.clip(student, None, 14.3), rel=1e-12)


def test_it_is_log_b_when_all_pairs_look_alike(embeddings) -> None:
    student = embeddings(1, num_pairs=1)
    alike = Embeddings(student.image_BD.expand(8, -1), student.text_BD.expand(8, -1), student.scale)
    assert build_loss("clip")(alike).item() == pytest.approx(math.log(8))


def test_it_vanishes_when_every_pair_is_certain() -> None:
    # Orthogonal pairs at scale 100: −log(1 / (1 + 7 e^−100)) = 7 e^−100, which is 0 next to 1.
    eye = torch.eye(8, dtype=torch.float64)
    certain = Embeddings(eye, eye, torch.tensor(100.0, dtype=torch.float64))
    assert build_loss("clip")(certain).item() == pytest.approx(0, abs=1e-12)
    unsure = Embeddings(eye, eye, torch.tensor(2.0, dtype=torch.float64))
    assert build_loss("clip")(unsure).item() == pytest.approx(math.log(1 + 7 * math.exp(-2)), rel=1e-12)


def test_it_needs_a_teacher_only_where_its_scale_does(embeddings) -> None:
    with pytest.raises(ValueError, match=r"teacher\.model"):
        build_loss("clip", scale="teacher")(embeddings(1))
    assert build_loss("clip", scale="teacher").loss.needs_teacher
    assert not build_loss("clip", scale=50).loss.needs_teacher
