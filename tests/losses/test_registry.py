"""Losses in users' files, through the registry; tests/cli/test_custom_loss.py trains with one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from workbench.config.run import LossConfig
from workbench.config.trust import VARIABLE
from workbench.embeddings import Embeddings
from workbench.losses import build_loss
from workbench.losses.objective import Objective

NEW_LOSS = '''
"""A loss in a new file of the folder."""
from workbench.losses.base import Loss


class HalfLoss(Loss):
    name, title, paper, equation = "half", "half", "none", "1/2"
    published_weight = {"paper": 1.0, "released": 1.0}

    def __call__(self, comparison):
        return comparison.student.scale * 0 + 0.5
'''


def test_adding_a_loss_is_adding_its_file(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(NEW_LOSS)
    program = f"import workbench.losses as losses; losses.__path__.append({str(tmp_path)!r}); print(*losses.LOSSES)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "half" in found.stdout.split()


def test_an_unknown_loss_offers_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'crd'"):
        build_loss("crdd")


@pytest.mark.parametrize("chunk_size", [-1, 2.5, None, True])
def test_a_chunk_size_that_is_no_number_of_rows_is_refused(chunk_size) -> None:
    with pytest.raises(ValueError, match="chunk_size is a number of rows"):
        build_loss("clip", chunk_size=chunk_size)


def test_plain_tensors_are_refused_with_the_remedy() -> None:
    rows_BD = torch.eye(3)
    embeddings = Embeddings.from_raw(rows_BD, rows_BD, torch.tensor(10.0))
    for student, teacher in ((rows_BD, embeddings), (embeddings, rows_BD)):
        with pytest.raises(TypeError, match=r"not a Tensor: Embeddings\.from_raw\(image_BD, text_BD, scale\)"):
            build_loss("fd")(student, teacher)


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


def test_it_computes_the_loss_in_its_file(embeddings, cosine: str) -> None:
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
        ("import nothing_of_this_name", r"loss\.py, line 1 does not run: ModuleNotFoundError"),
        ("import sys\n\nsys.exit(3)", r"loss\.py, line 3 does not run: SystemExit: 3"),
        (COSINE.replace("= power", "= exit(3)"), r"loss\.mine: .*loss\.py, line 12: SystemExit: 3"),
        ("x = 1\n\ndef broken(:", r"loss\.py, line 3 does not run: SyntaxError"),
        (COSINE.replace("__call__", "forward"), r"defines none: CosineLoss needs def __call__\(self, comparison\)"),
        (COSINE.replace("(Loss)", ""), "defines none"),
        (COSINE.replace("super().__init__(convention)", "pass"), r"CosineLoss must call super\(\).__init__"),
        (COSINE.replace("(self, comparison: Comparison)", "(self)"), r"line 14: write it as def __call__"),
        (COSINE.replace("(self, comparison: C", "(self, a, b: C"), r"line 14: write it as def __call__"),
        (
            COSINE.replace('convention="paper", power=1.0', 'power, convention="paper"'),
            r"loss\.mine needs a value: --set loss\.mine\.power=VALUE",
        ),
        (COSINE.replace("= power", "= powr"), r"loss\.mine: .*loss\.py, line 12: NameError: name 'powr'"),
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
    with pytest.raises(ValueError, match=r"rename the one in .*cosine\.py"):
        build_loss("fd", file=cosine)


def test_its_options_are_checked(cosine: str) -> None:
    with pytest.raises(ValueError, match="did you mean 'power'"):
        build_loss("mine", file=cosine, powr=2)


@pytest.mark.parametrize(
    ("instead", "message"),
    [
        ("(1 - (student.image_BD * teacher.image_BD).sum(1))", r"a tensor of shape \[6\]: .* so end with \.mean\(\)"),
        ("0.5", "a float: a loss is one number a batch, a 0-d tensor"),
        ("None", "nothing: a loss is one number a batch"),
        ("torch.ones((), dtype=torch.int64)", "a tensor of torch.int64"),
        ("student.image_BD.detach().sum()", r"a value without a gradient: compute it from comparison\.student"),
        ("teacher.image_BD.sum()", "a value without a gradient"),
        ("student.image_DB.mean()", r"line 16: AttributeError: 'Embeddings' object has no attribute 'image_DB'"),
        ("student.image_BD[:, 99].mean()", "line 16: IndexError"),
        ("(student.image_BD @ teacher.image_BD).mean()", "line 16: RuntimeError"),
        ("comparison.embeddings('techer').image_BD.mean()", "line 16: KeyError: 'techer'"),
    ],
)
def test_a_mistake_in_a_loss_is_one_line_with_loss_file_and_rule(embeddings, tmp_path: Path, instead, message) -> None:
    path = tmp_path / "cosine.py"
    path.write_text(COSINE[: COSINE.index("return")] + f"return {instead}\n")
    teacher = embeddings(2)
    teacher = Embeddings(teacher.image_BD.detach(), teacher.text_BD.detach(), teacher.scale.detach())
    with pytest.raises(ValueError, match=rf"^loss\.mine: .*cosine\.py.*{message}") as caught:
        build_loss("mine", file=str(path))(embeddings(1), teacher)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 250


def test_running_out_of_memory_is_not_called_a_mistake_of_the_loss(embeddings, tmp_path: Path) -> None:
    path = tmp_path / "cosine.py"
    for error, kind in (("MemoryError()", MemoryError), ("RuntimeError('cannot allocate memory')", RuntimeError)):
        path.write_text(COSINE[: COSINE.index("return")] + f"raise {error}\n")
        with pytest.raises(kind) as caught:
            build_loss("mine", file=str(path))(embeddings(1), embeddings(2))
        assert not isinstance(caught.value, ValueError)


@pytest.mark.parametrize("hook", ["learned", "learnt"])
def test_learned_parts_are_a_module_under_either_name_of_the_hook(embeddings, tmp_path: Path, hook: str) -> None:
    path = tmp_path / "cosine.py"
    path.write_text(f"{COSINE}\n    def {hook}(self, widths):\n        return torch.nn.Linear(widths.student, 2)\n")
    loss = build_loss("mine", file=str(path))
    loss(embeddings(1), embeddings(2))
    assert loss.learned.parts["mine"].weight.shape == (2, embeddings(1).width)
    for instead, message in (
        ("3", f"{hook} returns a int, not an nn.Module"),
        ("widths.teachr", "line 19: AttributeError"),
    ):
        path.write_text(f"{COSINE}\n    def {hook}(self, widths):\n        return {instead}\n")
        with pytest.raises(ValueError, match=rf"^loss\.mine: .*cosine\.py.*{message}"):
            build_loss("mine", file=str(path))(embeddings(1), embeddings(2))


def test_a_boolean_setting_takes_no_string() -> None:
    with pytest.raises(ValueError, match=r"^loss\.single_modal\.keep_diagonal is true or false \(got 'no'\)"):
        build_loss("single_modal", keep_diagonal="no")


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
