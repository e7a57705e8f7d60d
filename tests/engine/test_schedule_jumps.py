"""A fork warns of schedules that jump at its start."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import TINY
from workbench.config.run import RunConfig
from workbench.engine.fork import plan_fork
from workbench.engine.launch import launch
from workbench.events import Warned
from workbench.models.folder import save_folder
from workbench.models.spec import load_model
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import send_command

PEAK = 1e-3
RAMP = {"value": 4.0, "ramp_steps": 10}


@pytest.fixture
def train_parent(tiny: Callable[..., RunConfig], tmp_path: Path) -> Callable[..., RunDirectory]:
    """``train_parent(changes)``: a finished run of 12 steps with checkpoints at 4, 8 and 12."""

    def train(changes: dict[str, object] | None = None, commands: dict[str, float] | None = None) -> RunDirectory:
        plain = {"log": {"keep_checkpoints": 3, "every_steps": 1}, "optimizer": {"warmup_fraction": 0.0}}
        started = launch({"one": tiny(**plain | (changes or {}))}, tmp_path / "runs")
        events = started.events()
        next(events)
        if commands:
            send_command(started.directories["one"], "set", **commands)
        list(events)
        return started.directories["one"]

    return train


def jumps_of(parent: RunDirectory, **options: object) -> list[str]:
    """What a fork warns of before its first step."""
    started = plan_fork(parent, **options).launch("two")
    warned = [event.message for event in started.cohort.announce() if isinstance(event, Warned)]
    return [message for message in warned if not message.startswith("teacher: ")]  # its weights are random


def cosine(step: int, num_steps: int) -> str:
    return f"{PEAK * 0.5 * (1 + math.cos(math.pi * step / num_steps)):.3g}"


@pytest.mark.parametrize(("at", "last"), [(8, 8), (12, 11)])
def test_a_longer_fork_warns_how_far_its_learning_rate_rises(train_parent, at: int, last: int) -> None:
    (line,) = jumps_of(train_parent(), at=at, num_steps=24)
    assert f"the learning rate jumps from {cosine(last, 12)} to {cosine(at, 24)}" in line
    assert "ends at step 24, the parent's at step 12" in line


def test_the_offered_learning_rate_continues_the_parents(train_parent) -> None:
    parent = train_parent()
    (line,) = jumps_of(parent, at=8, num_steps=24)
    rate = float(line.partition("--set optimizer.learning_rate=")[2].split()[0])
    assert rate * float(cosine(8, 24)) / PEAK == pytest.approx(float(cosine(8, 12)), rel=0.01)


@pytest.mark.parametrize(
    "options",
    [
        {"at": 8},
        {"at": 8, "overrides": ["loss.fd.weight=500"]},
        {"at": 8, "num_steps": 24, "overrides": ["optimizer.learning_rate=1e-5"]},
    ],
)
def test_changed_and_equal_settings_are_no_jumps(train_parent, options: dict[str, object]) -> None:
    assert jumps_of(train_parent(), **options) == []


def test_a_learning_rate_changed_in_the_parent_counts(train_parent) -> None:
    (line,) = jumps_of(train_parent(commands={"optimizer.learning_rate": PEAK / 2}), at=8, num_steps=24)
    half = float(cosine(8, 12)) / 2
    assert f"jumps from {half:.3g} to" in line


def test_a_weight_that_ramps_goes_back_with_a_warning(train_parent) -> None:
    lines = jumps_of(train_parent({"loss": {"crd": {"weight": RAMP}}}), at=4, num_steps=24)
    assert len(lines) == 2
    assert "loss.crd.weight jumps from 1.6 to 0.8" in lines[1]
    assert "--set loss.crd.weight=1.6 keeps it" in lines[1]


@pytest.fixture
def masks(tmp_path: Path) -> dict[str, object]:
    """A student whose masks are learned for 8 of 12 steps, their target rising for 6."""
    deep = {"vision_cfg": {**TINY["vision_cfg"], "layers": 2}, "text_cfg": {**TINY["text_cfg"], "layers": 2}}
    (tmp_path / "deep.json").write_text(json.dumps(TINY | deep))
    save_folder(load_model(f"config:{tmp_path / 'deep.json'}", seed=99), tmp_path / "deep")
    stage = {"sparsity": 0.3, "num_steps": 12, "mask_steps": 8, "ramp_steps": 6, "learning_rate": 2.0}
    return {
        "student": {"model": "inherited"},
        "teacher": {"model": str(tmp_path / "deep")},
        "inheritance": {"stages": [stage]},
    }


def test_masks_whose_target_goes_back_say_so(train_parent, masks: dict[str, object]) -> None:
    lines = jumps_of(train_parent(masks), at=4, num_steps=24)
    assert [line for line in lines if line.startswith("the masks'")] == [
        "the masks' target sparsity jumps from 67% to 33% of its ramp",
        "the masks' learning rate jumps from 2 to 1",
    ]


@pytest.mark.parametrize(("at", "num_steps"), [(8, 24), (4, 5)])
def test_a_fork_that_would_be_in_another_phase_is_refused(train_parent, masks, at: int, num_steps: int) -> None:
    parent = train_parent(masks)
    with pytest.raises(ValueError, match=r"stage 1: .* stage 1: .* keep --steps 12, .* --at STEP") as refused:
        plan_fork(parent, at=at, num_steps=num_steps)
    assert f"at step {at} the parent" in str(refused.value)
