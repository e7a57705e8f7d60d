"""The papers' settings at their own scale: everything but the data can be checked here."""

from pathlib import Path

import pytest
import torch

from workbench.config.toml import load_recipe, recipes
from workbench.engine.build import build_cohort, make_objective
from workbench.engine.launch import launch
from workbench.engine.loop import train
from workbench.events import StepDone
from workbench.losses import LOSSES
from workbench.models.spec import load_model
from workbench.models.teacher import Teacher

REAL = ["baseline-cc3m-cc12m", "clip-kd-cc3m-cc12m", "tinyclip-laion400m", "tinyclip-yfcc15m"]


def test_they_are_the_recipes_whose_data_are_not_samples() -> None:
    real = [name for name in recipes() if not load_recipe(name).data.train.startswith("samples:")]
    assert sorted(real) == REAL


@pytest.mark.parametrize("name", REAL)
def test_the_student_and_the_losses_can_be_built(name: str) -> None:
    config = load_recipe(name)
    with torch.device("meta"):
        student = load_model(config.student.model, seed=0)
        teacher = Teacher(load_model(config.teacher.model.partition("@")[0], seed=0))
    assert student.form.image_size == teacher.form.image_size == 224
    assert student.form.tokenizer_id == teacher.form.tokenizer_id
    objective = make_objective(config, teacher)
    for loss, term in objective.terms.items():
        published = LOSSES[loss].published_weight[term.loss.convention]
        assert config.loss[loss].weight == published
        at_reference = config.train.batch_size == 1024 and teacher.width == 512
        assert term.weight(0) == pytest.approx(published) or not at_reference
    assert config.train.batch_size % config.train.micro_batch_size == 0


@pytest.mark.parametrize(("name", "warmup"), [*zip(REAL, (10_000, 10_000, 2000, 2000), strict=True)])
def test_the_warm_up_is_the_papers(name: str, warmup: int) -> None:
    config = load_recipe(name)
    assert config.optimizer.warmup_fraction * config.train.num_steps == pytest.approx(warmup, rel=0.01)


@pytest.mark.parametrize("name", REAL)
def test_a_few_steps_with_other_data_and_smaller_models(name: str, tiny_models: dict[str, str]) -> None:
    small = {
        "data.train": "samples:scenes",
        "data.validation": "samples:scenes",
        "data.num_pairs": 64,
        "data.num_validation_pairs": 20,
        "data.test": "",
        "data.num_workers": 0,
        "student.model": tiny_models["student"],
        "teacher.model": tiny_models["teacher"],
        "teacher.chunk_size": 16,
        "train.num_steps": 3,
        "train.batch_size": 32,
        "train.micro_batch_size": 8,
        "train.device": "cpu",
        "log.every_steps": 1,
    }
    config = load_recipe(name, [f"{key}={value}" for key, value in small.items()])
    losses = [event.loss for event in train(build_cohort({"run": config})) if isinstance(event, StepDone)]
    assert len(losses) == 3
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("there", "setting"),
    [([], "teacher.model"), (["teacher.model"], "data.train"), (["teacher.model", "data.train"], "data.validation")],
)
def test_a_placeholder_that_is_not_there_is_one_line_that_names_its_setting(
    there: list[str], setting: str, tiny_models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"teacher.model": tiny_models["teacher"], "data.train": "samples:scenes", "data.num_pairs": "1024"}
    chosen = [f"{key}={value}" for key, value in given.items() if key in there or key == "data.num_pairs"]
    config = load_recipe("clip-kd-cc3m-cc12m", [*chosen, "train.device=cpu", f"student.model={tiny_models['student']}"])
    with pytest.raises(ValueError, match=rf"name another with --set {setting}=SPEC$") as error:
        launch({"run": config}, tmp_path / "runs")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "runs").iterdir())
