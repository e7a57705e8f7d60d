"""A fork shares its parent's past and its state, whatever changes."""

from pathlib import Path

import pytest
import torch

from workbench.engine.build import build_cohort
from workbench.engine.fork import plan_fork
from workbench.engine.launch import launch, relaunch
from workbench.engine.loop import train
from workbench.events import Forked, RunResumed, RunStarted, StepDone, Warned
from workbench.models.weights import weights_sha256
from workbench.runs.directory import RunDirectory, find_run
from workbench.runs.liveness import run_status
from workbench.runs.log import read_events
from workbench.runs.summary import load_run, read_summary


@pytest.fixture
def parent(tiny, tmp_path: Path) -> RunDirectory:
    """A finished run of 12 steps with checkpoints at 4, 8 and 12."""
    for _ in launch({"one": tiny(log={"keep_checkpoints": 3})}, tmp_path).events():
        pass
    return find_run(tmp_path, "one")


def run_to_end(started) -> str:
    for _ in started.events():
        pass
    return weights_sha256(started.cohort.members[0].state)


def ends_as(config) -> str:
    cohort = build_cohort({"run": config})
    for _ in train(cohort):
        pass
    return weights_sha256(cohort.members[0].state)


@pytest.mark.parametrize("at", [4, 8])
def test_a_fork_without_changes_ends_bit_identical_to_its_parent(parent, tiny, at: int) -> None:
    assert run_to_end(plan_fork(parent, at=at).launch("two")) == ends_as(tiny())
    two, one = (read_summary(find_run(parent.path.parent, run)) for run in ("two", "one"))
    assert two.weights_sha256 == one.weights_sha256
    assert two.metrics == one.metrics
    assert (two.state, two.step, two.num_steps) == ("finished", 12, 12)


def test_a_fork_interrupted_before_its_first_checkpoint_resumes_bit_identically(parent, tiny) -> None:
    fork = plan_fork(parent, at=4, overrides=["log.checkpoint_every_steps=0"]).launch("two")
    events = fork.events()
    for event in events:
        if isinstance(event, StepDone) and event.step == 6:
            break
    events.close()  # as a kill leaves it: no checkpoint of its own
    assert run_status(fork.directories["two"]).step == 6
    resumed = relaunch(fork.directories["two"])
    assert resumed.cohort.start_step == 4
    assert run_to_end(resumed) == ends_as(tiny())
    kinds = [type(event) for event in read_events(fork.directories["two"].events_file).events]
    assert kinds[:2] == [Forked, RunStarted]
    assert kinds.count(RunStarted) == kinds.count(RunResumed) == 1


def test_a_fork_of_a_fork_ends_bit_identical_too(parent, tiny) -> None:
    run_to_end(plan_fork(parent, at=4, overrides=["log.keep_checkpoints=3"]).launch("two"))
    two = find_run(parent.path.parent, "two")
    assert run_to_end(plan_fork(two, at=8).launch("three")) == ends_as(tiny())
    history = load_run(parent.path.parent / "three").events
    assert [event.step for event in history if isinstance(event, StepDone)] == [1, 3, 4, 6, 8, 9, 12]


def warnings_of(events) -> list[str]:
    """What was warned of, but for the teacher's random weights."""
    messages = [event.message for event in events if isinstance(event, Warned)]
    return [message for message in messages if not message.startswith("teacher: no better than guessing")]


def test_changes_start_at_the_fork(parent) -> None:
    changes = ["optimizer.learning_rate=1e-5", "data.seed=3", "train.batch_size=10"]
    forked = plan_fork(parent, at=8, overrides=changes, num_steps=24)
    run_to_end(forked.launch("two"))
    ours, theirs = (load_run(parent.path.parent / run) for run in ("two", "one"))
    assert ours.config.optimizer.learning_rate == 1e-5
    assert ours.config.log.checkpoint_every_steps == 8  # cadences scale with --steps
    past = [event for event in ours.events if isinstance(event, StepDone) and event.step <= 8]
    there = [event for event in theirs.events if isinstance(event, StepDone) and event.step <= 8]
    assert [event.model_copy(update={"run": "one"}) for event in past] == there
    assert ours.summary.step == 24
    assert warnings_of(ours.events) == []


def test_learned_parts_of_new_losses_start_fresh_with_a_note(parent) -> None:
    changes = ["loss.icl.weight=0", "loss.afd.weight=1", "loss.fd.weight=7"]
    started = plan_fork(parent, at=8, overrides=changes).launch("two")
    (member,) = started.cohort.members
    moments = member.state.optimizer_tensors()
    assert not any("_parts.afd" in name for name in moments)
    assert all(int(value) == 8 for name, value in moments.items() if name.endswith("/step"))
    assert any(name.startswith("learnt.projections.") for name in moments)
    assert warnings_of(started.events()) == [
        "new to this fork, and untrained at its start: afd",
        "learned by the parent, and not used by this fork: icl",
    ]
    run_to_end(plan_fork(find_run(parent.path.parent, "two"), num_steps=16).launch("three"))


def test_another_teachers_width_takes_new_projections(parent, tiny_models, tmp_path: Path) -> None:
    from workbench.models.folder import save_folder
    from workbench.models.spec import load_model

    teacher = tmp_path / "narrow"
    save_folder(load_model(tiny_models["student"], seed=5), teacher)
    started = plan_fork(parent, at=8, overrides=[f"teacher.model={teacher}"]).launch("two")
    assert warnings_of(started.events()) == ["learned by the parent, and not used by this fork: projections"]
    assert torch.isfinite(started.cohort.members[0].state.student.scale)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"at": 5}, "run one has no checkpoint at step 5; available: 4, 8, 12"),
        ({}, r"longer with --steps N, or start earlier with --at STEP \(4, 8\)"),
        ({"at": 8, "num_steps": 8}, "a checkpoint at step 8 and the fork would end at 8"),
        ({"overrides": ["student.model=mini-w64"]}, r"a fork cannot change student\.model from .* to 'mini-w64'"),
        ({"overrides": ["student.tokenizer=bpe"]}, r"cannot change student\.tokenizer"),
        ({"overrides": ["seed=1"]}, r"data\.seed decides the order"),
        ({"overrides": ["loss.icll.weight=1"], "at": 8}, "did you mean 'icl'"),
        ({"overrides": ["optimiser.eps=1"]}, "did you mean 'optimizer'"),
        ({"overrides": ["train.batch_size=100"], "at": 8}, "a batch of 100 needs as many pairs"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_no_run_behind(parent, options: dict, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        plan_fork(parent, **options).launch("two")
    assert [path.name for path in parent.path.parent.iterdir()] == ["one"]


def test_ids_are_free_and_say_where_from(parent) -> None:
    forked = plan_fork(parent, at=8)
    assert forked.new_id() == "one-at8"
    forked.create("one-at8")
    assert forked.new_id() == "one-at8-2"
    with pytest.raises(ValueError, match="already exists"):
        forked.create("one-at8")


def test_a_fork_that_has_lost_its_checkpoint_does_not_start_over(parent) -> None:
    fork = plan_fork(parent, at=8).create("two")
    (fork.checkpoints / "step-00000008" / "manifest.json").unlink()
    with pytest.raises(ValueError, match="has lost the checkpoint that it was forked from"):
        relaunch(fork)
