"""The first 20 steps of every recipe on the samples, pinned: changed arithmetic shows here before it shows in results.

``python tests/engine/test_trace.py`` writes new traces; explain in the commit why they changed.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.config.toml import load_recipe, recipes
from workbench.engine import loop
from workbench.engine.build import build_cohort
from workbench.engine.gradients import examine
from workbench.engine.loop import train
from workbench.events import StepDone, Warned

PINNED = Path(__file__).with_name("traces.json")
RECIPES = sorted(
    name
    for name in recipes()
    if load_recipe(name).data.train.startswith("samples:") and not name.startswith("teacher-")
)
SHORT = [
    "train.batch_size=32",
    "train.device=cpu",
    "data.num_pairs=320",
    "data.validation=",
    "data.test=",
    "teacher.chunk_size=32",
    "optimizer.warmup_fraction=0.1",
    "evaluate.every_steps=0",
    "log.every_steps=1",
    "log.diagnose_every_steps=0",
]


def traces(warnings: list[str]) -> dict[str, list[float]]:
    """The total loss of each step, by recipe. Two cohorts: their members end as they do alone."""
    configs = {name: load_recipe(name, SHORT).with_steps(20) for name in RECIPES}
    found: dict[str, list[float]] = {name: [] for name in RECIPES}
    for method in ("off", "learnability"):
        cohort = build_cohort({name: config for name, config in configs.items() if config.curation.method == method})
        for event in train(cohort):
            if isinstance(event, StepDone):
                found[event.run].append(event.loss)
            if isinstance(event, Warned):
                warnings.append(event.message)
    return found


@pytest.fixture(scope="module")
def warnings() -> list[str]:
    """What was warned of while the traces were made."""
    return []


@pytest.fixture(scope="module")
def traced(warnings: list[str]) -> Iterator[dict[str, list[float]]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "new_remarks", examine)  # at every step, not at the first alone
        yield traces(warnings)


def test_every_loss_of_a_recipe_contributes_at_every_step(traced, warnings: list[str]) -> None:
    assert len(traced) == len(RECIPES)
    assert [warning for warning in warnings if "check loss." in warning] == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_trace_is_the_pinned_one(recipe: str, traced: dict[str, list[float]]) -> None:
    expected = json.loads(PINNED.read_text())[recipe]
    assert len(expected) == 20
    assert traced[recipe] == pytest.approx(expected, rel=1e-3)


if __name__ == "__main__":
    written = {name: [round(loss, 6) for loss in losses] for name, losses in traces([]).items()}
    PINNED.write_text(json.dumps(written, indent=1) + "\n")
