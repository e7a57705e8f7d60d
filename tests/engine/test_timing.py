"""Steps under a stopwatch: the same steps as training's, and every second of them in one of three parts."""

import time
from contextlib import closing
from itertools import islice

import torch

from workbench.engine.build import build_cohort
from workbench.engine.loop import train
from workbench.engine.timing import StepTiming, mean_timing, step_timings


def test_every_second_of_a_step_is_in_one_of_its_parts(tiny) -> None:
    cohort = build_cohort({"a": tiny(), "b": tiny(seed=1)})
    start_s = time.perf_counter()
    with closing(step_timings(cohort)) as steps:
        taken = [timing for _, _, timing in islice(steps, 6)]
        total_s = time.perf_counter() - start_s
    assert all(timing.learn_s.keys() == {"a", "b"} for timing in taken)
    assert min(min(timing.teacher_forward_s, *timing.learn_s.values()) for timing in taken) > 0
    assert 0.8 * total_s < sum(timing.step_s for timing in taken) <= total_s


def test_the_steps_are_those_of_training(tiny) -> None:
    trained, timed = build_cohort({"run": tiny()}), build_cohort({"run": tiny()})
    list(train(trained))
    assert len(list(step_timings(timed))) == timed.num_steps
    for one, other in zip(trained.members[0].state.parameters(), timed.members[0].state.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_first_step_warms_up_and_counts_only_alone() -> None:
    first, second, third = (StepTiming(wait, 2 * wait, {"run": 3 * wait}) for wait in (100.0, 1.0, 2.0))
    assert mean_timing([first, second, third]) == StepTiming(1.5, 3.0, {"run": 4.5})
    assert mean_timing([first]) == first
