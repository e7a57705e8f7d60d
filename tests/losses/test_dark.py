import pytest
import torch

from workbench.config.run import LossConfig
from workbench.losses import build_loss
from workbench.losses.comparison import Comparison
from workbench.losses.objective import Objective
from workbench.losses.registry import make_loss


@pytest.mark.parametrize("beta", [2.0, 1.0, 0.0, -0.8])
def test_unmatched_pairs_have_their_own_weight(embeddings, brute_force, beta: float) -> None:
    student, teacher = embeddings(1, scale=14.3), embeddings(2, width=7, scale=50.0)
    expected = brute_force.dark(student, teacher, 14.3, 10.0, beta)  # the teacher at a temperature of 5
    assert build_loss("dark", first=beta)(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_without_a_weight_of_its_own_it_is_half_of_affinity_mimicking(embeddings) -> None:
    student, teacher = embeddings(1), embeddings(2)
    affinity = build_loss("affinity", scale="student", teacher_scale="0.2 x teacher")(student, teacher).item()
    assert build_loss("dark", first=1)(student, teacher).item() == pytest.approx(affinity / 2, rel=1e-12)


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_the_weight_goes_linearly_from_first_to_last(embeddings, brute_force, progress: float) -> None:
    student, teacher = embeddings(1), embeddings(2, scale=50.0)
    comparison = Comparison(student, teacher, student, progress=progress)
    expected = brute_force.dark(student, teacher, 14.3, 10.0, 2 - 2.8 * progress)
    assert make_loss("dark")(comparison).item() == pytest.approx(expected, rel=1e-12)


def test_a_negative_weight_repels_from_the_teachers_unmatched_pairs(embeddings) -> None:
    student, teacher = embeddings(1), embeddings(2)
    gradients = {}
    for beta in (-1.0, 0.0, 1.0):
        loss = build_loss("dark", first=beta)(student, teacher)
        (gradients[beta],) = torch.autograd.grad(loss, student.image_BD)
    attracted, repelled = gradients[1.0] - gradients[0.0], gradients[-1.0] - gradients[0.0]
    torch.testing.assert_close(attracted, -repelled)
    assert attracted.norm() > 1e-3


def test_progress_is_the_share_of_the_runs_steps_that_are_done() -> None:
    objective = Objective({"dark": LossConfig()}, 8, 4, num_steps=40)
    assert [objective.progress(step) for step in (0, 10, 40)] == [0, 0.25, 1]
    assert Objective({"dark": LossConfig()}, 8, 4).progress(10) == 0


@pytest.mark.parametrize("value", ["-1", True, float("nan")])
def test_a_weight_that_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"loss\.dark: last"):
        make_loss("dark", last=value)
