"""A fork's history is its parent's up to the fork, then its own, in every view."""

import json
import shutil
from pathlib import Path

import pytest

from workbench.events import CheckpointSaved, EvalDone, Forked, RunResumed, StepDone, Warned
from workbench.runs.checkpoints import checkpoints, create_fork, find_checkpoint, write_checkpoint
from workbench.runs.directory import RunDirectory, create_run
from workbench.runs.liveness import run_status
from workbench.runs.log import EventLog, lineage, read_events, read_history
from workbench.runs.summary import summarize
from workbench.views.curves import curves


def append(run: RunDirectory, *events) -> None:
    with EventLog(run.events_file) as log:
        for event in events:
            log.append(event.model_copy(update={"run": run.id}))


def evaluated(step: int, value: float) -> EvalDone:
    return EvalDone(run="", step=step, split="validation", num_pairs=9, metrics={"cka": value}, elapsed_s=0)


def saved(step: int, digest: str) -> CheckpointSaved:
    return CheckpointSaved(run="", step=step, path="somewhere", weights_sha256=digest)


@pytest.fixture
def parent(tmp_path: Path, started, step_done, finished) -> RunDirectory:
    run = create_run(tmp_path, "one", "seed = 0\n")
    append(run, started(), step_done(10, loss=3.0), evaluated(10, 0.1), saved(10, "ten"))
    append(run, step_done(20, loss=2.0), evaluated(20, 0.2), saved(20, "twenty"), finished(20))
    for step in (10, 20):
        write_checkpoint(run, step, {"weights": bytes(step)}, {"elapsed_s": 1.0})
    return run


def fork(parent: RunDirectory, run_id: str, at: int | None = None) -> RunDirectory:
    return create_fork(parent, run_id, "seed = 0\n", find_checkpoint(parent, at))


def messages(run: RunDirectory) -> list[str]:
    return [f"{type(event).__name__} {event.step}" for event in read_history(run).events]


def test_the_history_is_the_parents_up_to_the_fork_then_its_own(parent, started, step_done) -> None:
    two = fork(parent, "two", 10)
    append(two, started(step=10), step_done(20, loss=9.0))
    assert messages(two) == [
        *("RunStarted 0", "StepDone 10", "EvalDone 10", "CheckpointSaved 10"),
        *("Forked 10", "RunStarted 10", "StepDone 20"),
    ]
    assert {event.run for event in read_history(two).events} == {"two"}
    assert curves(read_history(two).events).loss.value.tolist() == [3.0, 9.0]
    assert messages(parent)[-1] == "RunFinished 20"


def test_a_fork_at_the_end_has_no_end_of_its_parents(parent) -> None:
    assert "RunFinished 20" not in messages(fork(parent, "two"))
    assert "StepDone 20" in messages(fork(parent, "three"))


def test_only_some_kinds_are_the_same_as_all_of_them_filtered(parent, started, step_done) -> None:
    two = fork(parent, "two", 10)
    append(two, started(step=10), step_done(20), step_done(25))
    append(two, RunResumed(run="two", step=20, host="h", pid=1), step_done(25), step_done(30))
    every = read_history(two).events
    for kinds in ((StepDone,), (EvalDone, CheckpointSaved), (Forked,)):
        assert read_history(two, kinds).events == [event for event in every if isinstance(event, kinds)]
    assert [event.step for event in every if isinstance(event, StepDone)] == [10, 20, 25, 30]


def test_a_summary_has_the_parents_metrics_until_its_own(parent, started, step_done) -> None:
    two = fork(parent, "two", 10)
    summary = summarize(two)
    assert (summary.state, summary.step, summary.metrics, summary.weights_sha256) == ("new", 10, {"cka": 0.1}, "ten")
    append(two, started(step=10), step_done(20), evaluated(20, 0.7))
    assert summarize(two).metrics == {"cka": 0.7}
    assert summarize(two).num_steps == 600


def test_a_fork_of_a_fork_has_the_history_of_all_three(parent, started, step_done) -> None:
    two = fork(parent, "two", 10)
    append(two, started(step=10), step_done(15, loss=1.0), step_done(20, loss=1.0))
    write_checkpoint(two, 15, {"weights": b""}, {"elapsed_s": 1.0})
    three = fork(two, "three", 15)
    assert [past.run.id for past in lineage(three)] == ["one", "two", "three"]
    assert [event.step for event in read_history(three).events if isinstance(event, StepDone)] == [10, 15]


def test_a_fork_without_its_parent_has_a_warning_and_its_own_events(parent, started, step_done) -> None:
    two = fork(parent, "two", 10)
    append(two, started(step=10), step_done(20))
    shutil.rmtree(parent.path)
    lost, *own = read_history(two).events
    assert isinstance(lost, Warned)
    assert lost.message == "forked from run 'one', which is missing: its history to step 10 is lost"
    assert [type(event).__name__ for event in own] == ["Forked", "RunStarted", "StepDone"]
    assert len(curves(read_history(two).events).loss) == 1


def test_a_later_run_of_the_parents_name_is_another(parent, started, step_done) -> None:
    two = fork(parent, "two", 10)
    shutil.rmtree(parent.path)
    append(create_run(parent.path.parent, "one", ""), started(), step_done(5, loss=99.0))
    assert "which is missing" in read_history(two).events[0].message
    two.path.rename(parent.path.parent / "moved")
    moved = RunDirectory(parent.path.parent / "moved")
    shutil.rmtree(parent.path)
    moved.path.rename(parent.path)  # now it has its own parent's name
    assert [past.run.id for past in lineage(parent)] == ["one"]


def test_a_fork_holds_the_checkpoint_and_outlives_the_parents(parent) -> None:
    two = fork(parent, "two", 10)
    shutil.rmtree(parent.checkpoints)
    assert [path.name for path in checkpoints(two)] == ["step-00000010"]
    assert find_checkpoint(two) == two.checkpoints / "step-00000010"
    (forked,) = read_events(two.events_file).events
    assert (forked.parent, forked.parent_step, forked.step) == ("one", 10, 10)
    assert run_status(two).state == "new"


def test_a_checkpoint_that_is_damaged_or_not_there_makes_no_fork(parent) -> None:
    with pytest.raises(ValueError, match="no checkpoint at step 15; available: 10, 20"):
        find_checkpoint(parent, 15)
    whole = find_checkpoint(parent, 20)
    (whole / "weights").write_bytes(b"other")
    with pytest.raises(ValueError, match="damaged"):
        find_checkpoint(parent, 20)
    assert find_checkpoint(parent).name == "step-00000010"
    with pytest.raises(ValueError, match="damaged"):
        create_fork(parent, "two", "", whole)
    shutil.rmtree(whole)
    with pytest.raises(ValueError, match="was just removed"):
        create_fork(parent, "two", "", whole)
    assert [path.name for path in parent.path.parent.iterdir()] == ["one"]


def test_a_full_disk_leaves_no_fork(parent, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(
        ValueError, match=r"cannot create a run in .*: disk full at .*: needs about [\d.]+ (kB|bytes), has"
    ):
        fork(parent, "two", 10)
    assert [path.name for path in parent.path.parent.iterdir()] == ["one"]


def test_an_unreadable_log_cannot_be_forked(parent) -> None:
    parent.events_file.write_text("torn")
    with pytest.raises(ValueError, match="log of run one cannot be read"):
        fork(parent, "two", 10)


def test_every_line_of_a_forks_log_has_its_schema(parent) -> None:
    (line,) = fork(parent, "two", 10).events_file.read_text().splitlines()
    assert json.loads(line).keys() >= {"schema", "event", "parent", "parent_step", "parent_began_s"}
