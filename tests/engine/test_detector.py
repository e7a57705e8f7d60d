"""A detector behind the last step of a run: the frozen tower, what is logged, and continuing it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w
import torch
from safetensors.torch import load_file

from workbench.config.run import RunConfig
from workbench.engine.build import build_cohort
from workbench.engine.detector import load_detector
from workbench.engine.fork import plan_fork
from workbench.engine.launch import launch, relaunch
from workbench.engine.loop import out_of_memory_hint, take_detector_steps
from workbench.events import CheckpointSaved, EvalDone, RunFinished, RunResumed, StageStarted, StepDone
from workbench.runs.checkpoints import newest_checkpoint
from workbench.runs.directory import RunDirectory, find_run
from workbench.runs.liveness import Command, run_status
from workbench.runs.summary import read_summary

DENSE = {
    "data": "samples:scenes-dense",
    "num_images": 8,
    "num_validation_images": 4,
    "epochs": 2,
    "batch_size": 2,
    "image_size": 64,
    "width": 8,
    "regions": 8,
}
NUM_STUDENT_STEPS, NUM_STEPS = 2, 10


@pytest.fixture
def with_detector(tiny) -> Callable[..., RunConfig]:
    """A run of two steps of a student and eight of its detector."""

    def make(**changes) -> RunConfig:
        shortened = {"num_steps": NUM_STUDENT_STEPS} | changes.pop("train", {})
        return tiny(train=shortened, dense=DENSE | changes.pop("dense", {}), **changes)

    return make


def detector_of(run: RunDirectory) -> dict[str, torch.Tensor]:
    newest = newest_checkpoint(run)
    assert newest is not None
    return load_file(newest / "detector.safetensors")


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.fixture
def undisturbed(with_detector, tmp_path: Path) -> RunDirectory:
    started = launch({"run": with_detector()}, tmp_path / "undisturbed")
    for _ in started.events():
        pass
    return started.directories["run"]


def test_the_detectors_steps_follow_the_students(with_detector, tmp_path):
    started = launch({"run": with_detector()}, tmp_path)
    events = list(started.events())
    (stage,) = (event for event in events if isinstance(event, StageStarted))
    assert (stage.step, stage.until) == (NUM_STUDENT_STEPS, NUM_STEPS)
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [event.step for event in steps if event.step > NUM_STUDENT_STEPS] == [3, 6, 9, 10]
    assert steps[-1].terms.keys() == {"objectness", "proposal", "class", "box", "mask"}
    assert steps[-1].loss == pytest.approx(sum(steps[-1].terms.values()))
    assert [event.step for event in events if isinstance(event, CheckpointSaved)] == [2, 4, 8, 10]
    measured = [event for event in events if isinstance(event, EvalDone)][-1]
    assert (measured.split, measured.step, measured.num_pairs) == ("dense", NUM_STEPS, 4)
    assert isinstance(events[-1], RunFinished) and events[-1].state == "finished"
    summary = read_summary(find_run(tmp_path, "run"))
    assert (summary.step, summary.num_steps) == (NUM_STEPS, NUM_STEPS)
    assert {"box_ap", "mask_ap50", "image_to_text_r1"} <= summary.metrics.keys()
    assert run_status(find_run(tmp_path, "run")).num_steps == NUM_STEPS


@pytest.mark.parametrize("model", ["student", "mini-rn16"])
def test_the_tower_stays_bit_identical(with_detector, tiny_models, model):
    chosen = tiny_models.get(model, model)
    cohort = build_cohort({"run": with_detector(student={"model": chosen}, dense={"boxes_only": True})})
    (member,) = cohort.members
    before = {name: tensor.clone() for name, tensor in member.state.student.state_dict().items()}
    member.step = NUM_STUDENT_STEPS
    member.state.student.train()  # as training leaves it
    steps = [event for event in take_detector_steps(cohort, member, lambda: False) if isinstance(event, StepDone)]
    assert steps[-1].step == NUM_STEPS
    assert_equal(member.state.student.state_dict(), before)  # batch statistics too
    assert all(parameter.grad is None for parameter in member.state.student.parameters())
    assert member.state.student.training


def test_the_saved_student_is_that_of_its_last_step(undisturbed):
    events = [json.loads(line) for line in undisturbed.events_file.read_text().splitlines()]
    digests = {event["step"]: event["weights_sha256"] for event in events if event["event"] == "CheckpointSaved"}
    assert list(digests) == [2, 4, 8, 10]
    assert len(set(digests.values())) == 1


@pytest.mark.parametrize("after", [2, 7, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 3, 9, 10))])
def test_an_interrupted_run_ends_as_an_undisturbed_one(with_detector, undisturbed, tmp_path, after):
    calls = iter(range(100))
    started = launch({"run": with_detector()}, tmp_path)
    *_, end = started.events(lambda: next(calls) + 1 == after)
    assert (end.state, end.step) == ("interrupted", after)
    run = find_run(tmp_path, "run")
    events = list(relaunch(run).events())
    assert isinstance(events[0], RunResumed) and events[0].step == after
    assert_equal(detector_of(run), detector_of(undisturbed))
    assert read_summary(run).metrics == read_summary(undisturbed).metrics
    # What was measured before the detector's first step is not measured again.
    splits = [event.split for event in events if isinstance(event, EvalDone)]
    assert splits == (["dense"] if after > NUM_STUDENT_STEPS else ["validation", "dense"])


def test_a_run_that_dies_continues_from_its_checkpoint(with_detector, undisturbed, tmp_path):
    started = launch({"run": with_detector()}, tmp_path)
    events = started.events()
    for event in events:
        if event.step == 6 and isinstance(event, StepDone):  # its newest checkpoint has four steps
            break
    events.close()
    run = find_run(tmp_path, "run")
    assert newest_checkpoint(run).name == "step-00000004"
    resumed = list(relaunch(run).events())
    assert resumed[0].step == 4
    assert_equal(detector_of(run), detector_of(undisturbed))
    assert read_summary(run).metrics == read_summary(undisturbed).metrics


@pytest.mark.slow
def test_a_killed_run_ends_as_an_undisturbed_one(tiny_table, undisturbed, train_and_kill, tmp_path):
    tiny_table |= {"dense": DENSE, "train": tiny_table["train"] | {"num_steps": NUM_STUDENT_STEPS}}
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(tiny_table))
    train_and_kill(tmp_path / "tiny.toml", 5, 3)
    run = find_run(tmp_path, "run")
    for _ in relaunch(run).events():
        pass
    assert_equal(detector_of(run), detector_of(undisturbed))


def test_the_members_of_a_cohort_train_theirs_one_after_another(with_detector, undisturbed, tmp_path):
    configs = {"one": with_detector(), "two": with_detector(loss={"fd": {"weight": 0.0}})}
    started = launch(configs, tmp_path)
    calls = iter(range(100))
    # Two calls in the students' steps, eight in the first detector's, then in the second's third step.
    for _ in started.events(lambda: next(calls) == 12):
        pass
    one, two = (find_run(tmp_path, name) for name in configs)
    assert (read_summary(one).state, read_summary(two).state) == ("finished", "interrupted")
    assert (read_summary(two).step, run_status(two).num_steps) == (5, NUM_STEPS)
    assert_equal(detector_of(one), detector_of(undisturbed))
    for _ in relaunch(two).events():
        pass
    assert read_summary(two).state == "finished"


def test_a_command_stops_the_detector(with_detector, tmp_path):
    started = launch({"run": with_detector()}, tmp_path)
    control = find_run(tmp_path, "run").control
    for event in started.events():
        if isinstance(event, StepDone) and event.step == 6:
            (control / "00000000000000000001-aa.json").write_text(Command(kind="stop").model_dump_json())
    assert (event.state, event.step) == ("stopped", 6)
    assert newest_checkpoint(find_run(tmp_path, "run")).name == "step-00000006"


def test_a_student_that_is_only_evaluated(with_detector, tiny_models, tmp_path):
    config = with_detector(train={"num_steps": 0}, student={"model": tiny_models["teacher"]})
    started = launch({"run": config}, tmp_path)
    events = list(started.events())
    assert [event.split for event in events if isinstance(event, EvalDone)] == ["validation", "dense"]
    assert (events[0].num_steps, events[0].batch_size, events[0].num_pairs) == (8, 2, 8)
    assert (events[-1].state, events[-1].step) == ("finished", 8)


def test_boxes_alone_have_no_mask_head(with_detector, tmp_path):
    started = launch({"run": with_detector(dense={"boxes_only": True})}, tmp_path)
    measured = [event for event in started.events() if isinstance(event, EvalDone)][-1]
    assert "box_ap" in measured.metrics and "mask_ap" not in measured.metrics


def test_a_fork_from_the_detectors_steps_is_refused(undisturbed):
    with pytest.raises(ValueError, match=r"^[^\n]*detector[^\n]*--at 2[^\n]*$"):
        plan_fork(undisturbed, num_steps=40)


def test_out_of_memory_names_the_detectors_settings(with_detector):
    cohort = build_cohort({"run": with_detector()})
    member = cohort.members[0]
    member.step = NUM_STUDENT_STEPS
    for _ in take_detector_steps(cohort, member, lambda: False):
        break
    assert "dense.batch_size=1" in str(out_of_memory_hint(MemoryError(), cohort))


def test_a_saved_detector_finds_what_the_trained_one_found(undisturbed):
    training, held_out = load_detector(undisturbed)
    assert len(held_out) == DENSE["num_validation_images"]
    expected = read_summary(undisturbed).metrics
    assert training.measure().items() <= expected.items()


def test_a_run_without_a_detector_names_the_command(tiny, tmp_path):
    for _ in launch({"run": tiny(train={"num_steps": 1})}, tmp_path).events():
        pass
    with pytest.raises(ValueError, match=r"workbench dense run --data DATA"):
        load_detector(find_run(tmp_path, "run"))
