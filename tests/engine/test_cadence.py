"""The phases of a run are its steps, each once, whatever the stages and however they are stretched."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.conftest import TINY
from workbench.config.run import RunConfig
from workbench.engine.cadence import Cadence, diagnose_every, learning_rate, phase_at, phases
from workbench.engine.fork import plan_fork
from workbench.engine.launch import launch
from workbench.events import Warned
from workbench.models.folder import save_folder
from workbench.models.spec import load_model
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import send_command


def staged(*stages: tuple[int, int], num_steps: int | None = None) -> RunConfig:
    tables = [
        {"sparsity": (n + 1) / (len(stages) + 1), "num_steps": all_, "mask_steps": mask, "ramp_steps": 1}
        for n, (all_, mask) in enumerate(stages)
    ]
    return RunConfig.parse(
        {
            "student": {"model": "inherited"},
            "teacher": {"model": "sample:scenes"},
            "inheritance": {"stages": tables},
            "train": {"num_steps": num_steps or sum(all_ for all_, _ in stages)},
        }
    )


def test_two_stages_have_four_phases():
    found = phases(staged((10, 4), (6, 5)))
    assert [(phase.start, phase.end, phase.stage, phase.gates is not None) for phase in found] == [
        (0, 4, 0, True),
        (4, 10, 0, False),
        (10, 15, 1, True),
        (15, 16, 1, False),
    ]
    assert str(found[2]) == "stage 2: learning masks towards sparsity 0.666667"


@settings(deadline=None)
@given(
    stages=st.lists(st.tuples(st.integers(2, 30), st.integers(1, 29)).filter(lambda s: s[1] < s[0]), max_size=4),
    num_steps=st.integers(8, 300),
)
def test_every_step_is_in_one_phase_at_any_length(stages, num_steps):
    assume(num_steps >= 2 * len(stages))  # fewer are refused: the next test
    config = (staged(*stages) if stages else RunConfig()).with_steps(num_steps)
    found = phases(config)
    assert [step for phase in found for step in range(phase.start, phase.end)] == list(range(num_steps))
    assert all(phase_at(found, step).start <= step < phase_at(found, step).end for step in range(num_steps))
    assert phase_at(found, num_steps) is found[-1]
    assert RunConfig.parse(config.model_dump(mode="json")) == config


def test_too_few_steps_for_the_phases_are_refused():
    assert staged((10, 4), (10, 4)).with_steps(4).inheritance.num_steps == 4
    with pytest.raises(ValueError, match="3 steps are too few for 4 phases"):
        staged((10, 4), (10, 4)).with_steps(3)


def test_masks_are_learned_in_a_warm_up_and_the_next_phase_has_none():
    config = staged((10, 4))
    peak = config.optimizer.learning_rate
    masks, rest = phases(config)
    rates = [phase_at((masks, rest), step).learning_rate(step, config.optimizer) for step in range(10)]
    assert rates[:4] == pytest.approx([peak / 4, peak / 2, 3 * peak / 4, peak])
    assert rates[4:] == pytest.approx([peak * 0.5 * (1 + math.cos(math.pi * n / 6)) for n in range(6)])


def test_a_run_without_stages_has_the_schedule_it_always_had():
    config = RunConfig()
    (only,) = phases(config)
    for step in (0, 7, 100, 599):
        expected = learning_rate(step, 600, config.optimizer.learning_rate, config.optimizer.warmup_fraction)
        assert only.learning_rate(step, config.optimizer) == expected


def test_it_rises_linearly_then_falls_as_half_a_cosine() -> None:
    rates = [learning_rate(step, 100, 2.0, 0.1) for step in range(100)]
    assert rates[:10] == [2.0 * (step + 1) / 10 for step in range(10)]
    assert rates[10] == 2.0
    assert rates[55] == 2.0 * 0.5 * (1 + math.cos(math.pi / 2))
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[99] < 0.001


def test_without_warm_up_it_starts_at_the_peak() -> None:
    assert learning_rate(0, 10, 3.0, 0.0) == 3.0


@given(st.integers(1, 11), st.integers(1, 100_000))
def test_gradient_snapshots_on_auto_stay_under_5_per_cent_of_the_steps(num_losses: int, num_steps: int) -> None:
    every = diagnose_every("auto", num_losses, num_steps)
    count = len({1, *range(every, num_steps + 1, every)}) if every else 0
    assert count * (1 + 2 * num_losses) / 3 <= 0.05 * num_steps


@pytest.mark.parametrize(
    ("setting", "num_losses", "num_steps", "every"),
    [
        ("auto", 4, 600, 120),
        ("auto", 4, 60, 120),
        ("auto", 4, 59, 0),
        ("auto", 1, 20, 40),
        ("auto", 1, 19, 0),
        ("auto", 2, 600, 67),
        (50, 4, 10, 50),
        (0, 4, 600, 0),
    ],
)
def test_auto_in_numbers(setting: int | str, num_losses: int, num_steps: int, every: int) -> None:
    assert diagnose_every(setting, num_losses, num_steps) == every


def due(method: str, config: RunConfig, *, keeps_files: bool = True, inherits: bool = False) -> list[int]:
    cadence = Cadence(config, 2, keeps_files=keeps_files, inherits=inherits)
    return [step for step in range(1, config.train.num_steps + 1) if getattr(cadence, method)(step)]


def test_what_is_due_at_each_step() -> None:
    config = RunConfig.parse(
        {
            "train": {"num_steps": 12},
            "evaluate": {"every_steps": 6},
            "log": {"every_steps": 5, "checkpoint_every_steps": 4, "diagnose_every_steps": 3},
        }
    )
    assert due("logs_at", config) == [1, 5, 10]
    assert due("evaluates_at", config) == [6, 12]
    assert due("saves_at", config) == [4, 8, 12]
    assert due("diagnoses_at", config) == [1, 3, 6, 9, 12]
    assert due("diagnoses_at", config, keeps_files=False) == []
    assert due("reads_weights_at", config) == [4, 6, 8, 12]
    assert due("reports_at", config) == [1, 3, 4, 5, 6, 8, 9, 10, 12]
    assert due("reports_at", config, keeps_files=False) == [1, 4, 5, 6, 8, 10, 12]


def test_zero_switches_off_evaluation_checkpoints_and_gradient_snapshots() -> None:
    config = RunConfig.parse(
        {"evaluate": {"every_steps": 0}, "log": {"checkpoint_every_steps": 0, "diagnose_every_steps": 0}}
    )
    assert due("evaluates_at", config) == due("saves_at", config) == due("diagnoses_at", config) == []


def test_masks_are_due_while_they_are_learned_when_they_are_fixed_and_at_the_end() -> None:
    config = staged((6, 3), (5, 2))
    assert due("enters_stage_at", config) == [3, 6, 8]
    assert due("masks_due_at", config, inherits=True) == [1, 2, 3, 6, 7, 8, 11]
    assert due("masks_due_at", config, inherits=True, keeps_files=False) == []
    assert due("masks_due_at", config) == []


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
