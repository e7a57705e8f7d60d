"""A loss in a user's own file, from the registry's side; tests/cli/test_custom_loss.py trains with one."""

from pathlib import Path

import pytest

from workbench.config.run import LossConfig
from workbench.config.trust import VARIABLE
from workbench.losses import build_loss
from workbench.losses.objective import Objective

COSINE = '''
import torch

from workbench.losses import Comparison, Loss


class CosineLoss(Loss):
    """One minus the cosine to the teacher, to a power."""

    def __init__(self, convention="paper", power=1.0):
        super().__init__(convention)
        self.power = power

    def __call__(self, comparison: Comparison):
        student, teacher = comparison.projected, comparison.embeddings("teacher")
        return (1 - (student.image_BD * teacher.image_BD).sum(1)).pow(self.power).mean()
'''


@pytest.fixture
def cosine(tmp_path: Path) -> str:
    path = tmp_path / "cosine.py"
    path.write_text(COSINE)
    return str(path)


def test_it_computes_what_its_file_says(embeddings, cosine: str) -> None:
    student, teacher = embeddings(1), embeddings(2)
    cosines = (student.image_BD * teacher.image_BD).sum(1)
    for power in (1.0, 2.0):
        loss = build_loss("mine", file=cosine, power=power)
        assert loss(student, teacher).item() == pytest.approx((1 - cosines).pow(power).mean().item())
        assert loss.loss.name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "should define one subclass of workbench.losses.Loss, and defines none"),
        (COSINE + COSINE.replace("CosineLoss", "Other"), "defines CosineLoss, Other"),
        ("import nothing_of_this_name", "does not run: ModuleNotFoundError"),
        ("def broken(:", "does not run: SyntaxError"),
    ],
)
def test_a_file_that_defines_no_single_loss_is_refused_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "loss.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        build_loss("mine", file=str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ValueError, match=r"no Python file at gone\.py"):
        build_loss("mine", file="gone.py")


def test_a_name_of_the_workbenchs_is_not_taken_over(cosine: str) -> None:
    with pytest.raises(ValueError, match=r"call the one in .* otherwise"):
        build_loss("fd", file=cosine)


def test_its_options_are_checked(cosine: str) -> None:
    with pytest.raises(ValueError, match="did you mean 'power'"):
        build_loss("mine", file=cosine, powr=2)


def test_a_configs_file_elsewhere_is_not_run_without_trust(
    tmp_path: Path, cosine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "")
    marker = tmp_path / "ran"
    Path(cosine).write_text(f"open({str(marker)!r}, 'w')\n" + COSINE)
    config = {"mine": LossConfig(file=cosine)}
    with pytest.raises(ValueError, match=r"cosine\.py is outside the working directory .*--trust"):
        Objective(config, 8, 4)
    assert not marker.exists()
    build_loss("mine", file=cosine)  # named by the code that calls, not by a config
    assert marker.exists()
    monkeypatch.setenv(VARIABLE, "1")
    assert Objective(config, 8, 4).losses.keys() == {"mine"}
