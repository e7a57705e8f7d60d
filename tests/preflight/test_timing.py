import time
from contextlib import closing
from itertools import islice

import pytest
import torch

from workbench.engine.build import build_cohort
from workbench.engine.loop import train
from workbench.preflight import timing
from workbench.preflight.timing import PairCost, StepTiming, mean_timing, step_timings, time_pairs


def test_a_step_scales_with_its_pairs_and_teacher_forwards_are_padded() -> None:
    found = PairCost(teacher_forward_s=0.5, learn_s={"a": 2.0, "b": 3.0}, grown_mb=1.0, chunk_size=16)
    step = found.timing(20)
    assert step.teacher_forward_s == 0.5 * 32
    assert step.learn_s == {"a": 40.0, "b": 60.0}
    assert step.step_s == 116.0
    assert found.student_s() == pytest.approx(1.0)


def test_nothing_of_the_cohort_changes(tiny) -> None:
    cohort = build_cohort({"run": tiny()})
    (member,) = cohort.members
    before = {name: tensor.clone() for name, tensor in member.state.state_dict().items()}
    found = time_pairs(cohort)
    assert found.teacher_forward_s > 0
    assert found.learn_s["run"] > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in member.state.state_dict().items())
    assert all(parameter.grad is None for parameter in member.state.parameters())
    assert member.state.student.training


def test_the_training_after_it_is_the_same(tiny) -> None:
    tried, untried = (build_cohort({"run": tiny()}) for _ in range(2))
    time_pairs(tried)
    for cohort in (tried, untried):
        with closing(step_timings(cohort)) as steps:
            list(islice(steps, 3))
    for one, other in zip(tried.members[0].state.parameters(), untried.members[0].state.parameters(), strict=True):
        assert torch.equal(one, other)


def test_without_a_teacher_none_is_tried(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    off = {name: {"weight": 0.0} for name in ("crd", "fd", "icl")}
    cohort = build_cohort({"run": tiny(loss=off)})
    monkeypatch.setattr(cohort.teacher, "in_chunks_of", lambda _: 1 / 0)
    assert time_pairs(cohort).teacher_forward_s == 0


def test_slow_models_see_the_fewest_pairs(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = build_cohort({"run": tiny()})
    seen = []
    encode = timing.encode

    def spy(state, batch, *rest):
        seen.append(len(batch))
        return encode(state, batch, *rest)

    monkeypatch.setattr(timing, "encode", spy)
    time_pairs(cohort)
    assert seen == [2, 8]
    monkeypatch.setattr(timing, "LONG_S", 0.0)
    time_pairs(cohort)
    assert seen == [2, 8, 2]


def test_an_estimate_is_of_the_right_size(healthy_step) -> None:
    expected_s, taken_s = healthy_step
    assert taken_s / 8 < expected_s < 8 * taken_s


@pytest.fixture
def healthy_step(tiny) -> tuple[float, float]:
    """Seconds of a step of a student that is large enough to outweigh the rest: estimated, and taken."""
    off = {name: {"weight": 0.0} for name in ("crd", "fd", "icl")}
    cohort = build_cohort({"run": tiny(loss=off, student={"model": "mini-w64"}, train={"num_steps": 3})})
    expected_s = time_pairs(cohort).timing(20).step_s
    start_s = time.perf_counter()
    with closing(step_timings(cohort)) as steps:
        taken = mean_timing([step for _, _, step in steps])
    assert time.perf_counter() > start_s
    return expected_s, taken.learn_s["run"]


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
