"""The phases of a run are its steps, each once, whatever the stages and however they are stretched."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from workbench.config.run import RunConfig
from workbench.engine.cadence import Cadence, diagnose_every, learning_rate, phase_at, phases


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
