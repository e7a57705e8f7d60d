"""Runs interrupted at the same step resume as one cohort, bit for bit as each would alone."""

from pathlib import Path

import pytest

from workbench.engine.build import build_cohort
from workbench.engine.launch import launch, relaunch
from workbench.engine.loop import train
from workbench.events import RunFinished, RunResumed
from workbench.models.weights import weights_sha256
from workbench.runs.directory import find_run


@pytest.fixture
def three(tiny):
    return {f"w{weight}": tiny(loss={"fd": {"weight": weight}}) for weight in (0.0, 1.0, 5.0)}


def interrupt(configs, runs_dir: Path, after: int) -> None:
    calls = iter(range(100))
    *_, end = launch(configs, runs_dir).events(lambda: next(calls) + 1 == after)
    assert isinstance(end, RunFinished)
    assert (end.state, end.step) == ("interrupted", after)


@pytest.mark.slow
def test_three_runs_resume_together_bit_for_bit(three, tmp_path: Path) -> None:
    interrupt(three, tmp_path, 5)
    resumed = relaunch(*(find_run(tmp_path, run) for run in three))
    events = list(resumed.events())
    assert [(event.run, event.step) for event in events if isinstance(event, RunResumed)] == [(run, 5) for run in three]
    for member in resumed.cohort.members:
        alone = build_cohort({member.run: three[member.run]})
        for _ in train(alone):
            pass
        assert weights_sha256(member.state) == weights_sha256(alone.members[0].state)


def test_runs_at_different_steps_are_refused(three, tmp_path: Path) -> None:
    for after, (run, config) in enumerate(three.items(), start=3):
        interrupt({run: config}, tmp_path, after)
    with pytest.raises(ValueError, match=r"run w1.0 resumes from step 4 and w0.0 from step 3"):
        relaunch(*(find_run(tmp_path, run) for run in three))
    assert relaunch(find_run(tmp_path, "w1.0")).cohort.start_step == 4  # no lock is left behind
