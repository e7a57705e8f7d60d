"""The papers' settings at their own scale: everything but the data can be checked here."""

from pathlib import Path

import pytest
import torch

from workbench.config.inheritance import TOWERS
from workbench.config.run import INHERITED
from workbench.config.toml import load_recipe, recipes
from workbench.engine.build import build_cohort, make_objective
from workbench.engine.launch import launch
from workbench.engine.loop import train
from workbench.engine.stages import inherited_student
from workbench.events import StepDone
from workbench.losses import LOSSES
from workbench.models.configs import tower_shape
from workbench.models.spec import load_model
from workbench.models.teacher import Teacher

INHERITED_ARE = {"tinyclip-laion400m": "ViT-40M-32-Text-19M", "tinyclip-yfcc15m": "ViT-39M-16-Text-19M"}
REAL = ["baseline-cc3m-cc12m", "clip-kd-cc3m-cc12m", "tinyclip-laion400m", "tinyclip-yfcc15m"]


def test_they_are_the_recipes_whose_data_are_not_samples() -> None:
    real = [name for name in recipes() if not load_recipe(name).data.train.startswith("samples:")]
    assert sorted(real) == REAL


@pytest.mark.parametrize("name", REAL)
def test_the_student_and_the_losses_can_be_built(name: str) -> None:
    config = load_recipe(name)
    with torch.device("meta"):
        student = load_model(INHERITED_ARE.get(name, config.student.model), seed=0)
        teacher = Teacher(load_model(config.teacher.model.partition("@")[0], seed=0))
    assert student.input_spec.image_size == teacher.input_spec.image_size == 224
    assert student.input_spec.tokenizer_id == teacher.input_spec.tokenizer_id
    objective = make_objective(config, teacher)
    for loss, term in objective.terms.items():
        published = LOSSES[loss].published_weight[term.loss.convention]
        assert config.loss[loss].weight == published
        at_reference = config.train.batch_size == 1024 and teacher.width == 512
        assert term.weight(0) == pytest.approx(published) or not at_reference
    assert config.train.batch_size % config.train.micro_batch_size == 0


@pytest.mark.parametrize(("name", "size"), INHERITED_ARE.items())
def test_what_is_inherited_is_the_papers_size(name: str, size: str) -> None:
    config = load_recipe(name)
    assert config.student.model == INHERITED
    source = load_model(config.teacher.model.partition("@")[0], seed=0)
    student, inheritance_map = inherited_student(config, source)
    expected = load_model(size, seed=0)
    for tower in TOWERS:
        assert tower_shape(student.config, tower) == tower_shape(expected.config, tower)
    weights = {name: tensor.shape for name, tensor in student.towers.state_dict().items()}
    assert weights == {name: tensor.shape for name, tensor in expected.towers.state_dict().items()}
    # Width 768 to 512 in the image tower, its matrices by the square; half of the layers of the text tower.
    image, text = 12 * 12 * 768**2, 12 * 12 * 512**2
    assert inheritance_map.sparsity == pytest.approx(1 - (image * 4 / 9 + text / 2) / (image + text))


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
        "teacher.model": tiny_models["teacher"],
        "teacher.chunk_size": 16,
        "train.num_steps": 3,
        "train.batch_size": 32,
        "train.micro_batch_size": 8,
        "train.device": "cpu",
        "log.every_steps": 1,
    }
    if name in INHERITED_ARE:
        small |= {"inheritance.image.width": 8, "inheritance.text.depth": 1}
    else:
        small["student.model"] = tiny_models["student"]
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
