"""What came out of a run, from its log."""

import errno
import json
import math
import os
from pathlib import Path

import pytest

from workbench.events import CheckpointSaved, EvalDone, RunResumed, Warned
from workbench.runs.directory import RunDirectory, create_run, list_runs
from workbench.runs.liveness import run_status
from workbench.runs.log import read_events
from workbench.runs.summary import read_summary, record, summarize, summary_or_reason, write_summary


def evaluated(step, split, **metrics):
    return EvalDone(
        run="a",
        step=step,
        split=split,
        num_pairs=1000,
        metrics=metrics,
        errors=dict.fromkeys(metrics, 0.01),
        chance=dict.fromkeys(metrics, 0.1),
        teacher={"image_to_text_r1": 0.9} if split == "validation" else {},
        elapsed_s=999.0,
    )


def saved(step, digest):
    return CheckpointSaved(run="a", step=step, path=f"checkpoints/{step}", weights_sha256=digest)


def test_the_document_has_what_the_surface_promises(run, append, started, step_done, finished):
    append(
        started(num_steps=20),
        evaluated(10, "validation", zero_shot_top1=0.1),
        step_done(20),
        saved(20, "abc"),
        evaluated(20, "validation", zero_shot_top1=0.5),
        evaluated(20, "test", zero_shot_top1=0.4),
        finished(20, reason="the end", elapsed_s=61.5),
    )
    assert summarize(run).to_document() == {
        "id": "clip-kd-s0",
        "dir": str(run.path),
        "state": "finished",
        "num_steps": 20,
        "step": 20,
        "metrics": {"zero_shot_top1": 0.5},
        "errors": {"zero_shot_top1": 0.01},
        "test_metrics": {"zero_shot_top1": 0.4},
        "test_errors": {"zero_shot_top1": 0.01},
        "chance": {"zero_shot_top1": 0.1},
        "teacher_metrics": {"image_to_text_r1": 0.9},
        "test_chance": {"zero_shot_top1": 0.1},
        "test_teacher_metrics": {},
        "weights_sha256": "abc",
        "kept_fraction": 1.0,
        "suites": [],
        "elapsed_s": 61.5,
        "reason": "the end",
    }


def test_without_a_validation_split_the_last_evaluation_counts(run, append):
    append(evaluated(1, "test", a=1.0), evaluated(2, "photos", a=2.0))
    summary = summarize(run)
    assert (summary.metrics, summary.test_metrics) == ({"a": 2.0}, {"a": 1.0})


def test_a_run_without_events_has_an_empty_summary(run):
    summary = summarize(run)
    assert (summary.state, summary.step, summary.metrics, summary.weights_sha256) == ("new", 0, {}, "")
    assert (summary.elapsed_s, summary.reason) == (0.0, "")


def test_a_dead_run_shows_its_last_step(run, append, started, step_done):
    append(started(), step_done(7, elapsed_s=3.5))
    summary = read_summary(run)
    assert (summary.state, summary.step, summary.elapsed_s) == ("dead", 7, 3.5)


def test_superseded_evaluations_and_checkpoints_do_not_count(run, append, started, finished):
    append(started(), evaluated(10, "validation", a=1.0), saved(10, "ten"))
    append(evaluated(20, "validation", a=2.0), saved(20, "twenty"), finished(20))
    append(RunResumed(run="a", step=10, host="elsewhere", pid=1))
    summary = summarize(run)
    assert (summary.metrics, summary.weights_sha256) == ({"a": 1.0}, "ten")
    assert summary.state != "finished"


def test_non_finite_metrics_are_strict_json_and_come_back(run, append, finished):
    append(evaluated(1, "validation", a=float("nan"), b=float("-inf")), finished(1, state="diverged"))
    write_summary(run)

    def refuse(token):
        raise AssertionError(token)

    document = json.loads(run.summary_file.read_text(), parse_constant=refuse)
    assert document["metrics"] == {"a": "NaN", "b": "-Infinity"}
    assert document == summarize(run).to_document()
    metrics = read_summary(run).metrics
    assert math.isnan(metrics["a"])
    assert metrics["b"] == float("-inf")


def test_a_written_summary_is_read_and_a_damaged_one_is_recomputed(run, append, finished):
    append(finished(5))
    write_summary(run)
    assert read_summary(run) == summarize(run)
    content = run.summary_file.read_text()
    run.summary_file.write_text(content.replace('"kept_fraction": 1.0', '"kept_fraction": 0.5'))
    assert read_summary(run).kept_fraction == 0.5
    run.summary_file.write_text(content.replace('"step": 5', '"step": 6'))
    assert read_summary(run).step == 5
    run.summary_file.write_text(content[:-30])
    assert read_summary(run).step == 5


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_summary_that_the_log_contradicts_does_not_count(run, append, started, step_done, finished, kept):
    append(started(), step_done(5), finished(5))
    write_summary(run)
    lines = run.events_file.read_text().splitlines(keepends=True)
    run.events_file.write_text("".join(lines[:kept]))
    assert read_summary(run) == summarize(run)
    assert read_summary(run).state == run_status(run).state == ("dead" if kept else "new")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
@pytest.mark.parametrize("name", ["run.toml", "events.jsonl"])
def test_a_run_whose_files_are_no_plain_files_is_unreadable(run, append, finished, name, make):
    append(finished(600))
    write_summary(run)
    (run.path / name).unlink()
    make(run.path / name)
    assert [one.id for one in list_runs(run.path.parent)] == [run.id]
    for from_log in (False, True):
        found = summary_or_reason(run, from_log=from_log)
        assert (found.state, name in found.reason) == ("unreadable", True)


def test_a_summary_in_a_folder_whose_name_is_not_utf8(run, append, finished):
    append(finished(600))
    moved = RunDirectory(run.path.rename(os.fsdecode(os.fsencode(run.path) + b"\xff")))
    write_summary(moved)
    assert read_summary(moved) == summarize(moved)
    assert json.loads(json.dumps(summarize(moved).to_document()))["dir"] == str(moved.path)


def test_the_summary_of_a_run_that_was_moved_names_its_new_place(run, append, finished):
    append(finished(600))
    write_summary(run)
    moved = RunDirectory(run.path.rename(run.path.with_name("moved")))
    assert (read_summary(moved).id, read_summary(moved).dir) == ("moved", str(moved.path))


def test_an_unreadable_run_has_a_summary_with_the_reason(run, append, finished):
    append(finished(600))
    assert summary_or_reason(run) == read_summary(run)
    run.events_file.unlink()
    run.events_file.mkdir()
    found = summary_or_reason(run)
    assert (found.id, found.state, found.metrics) == (run.id, "unreadable", {})
    assert found.reason == f"cannot read {run.events_file}: it is a folder, not a file"
    assert found.to_document()["state"] == "unreadable"


def test_every_event_is_in_its_runs_log_before_it_is_seen(tmp_path, step_done, finished):
    directories = {name: create_run(tmp_path, name, "") for name in ("a", "b")}
    events = [step_done(step, run=name) for step in (1, 2) for name in ("a", "b")]
    events += [finished(2, run="b"), step_done(3, run="a")]
    seen = []
    for event in record(events, directories):
        seen.append(event)
        assert read_events(directories[event.run].events_file).events[-1] == event
        assert directories["b"].summary_file.exists() == (finished(2, run="b").run == "b" and len(seen) > 4)
    assert seen == events
    assert not directories["a"].summary_file.exists()


def test_a_resume_takes_the_summary_back(run, finished):
    list(record([finished(5)], {run.id: run}))
    assert run.summary_file.exists()
    list(record([RunResumed(run=run.id, step=5, host="h", pid=1)], {run.id: run}))
    assert not run.summary_file.exists()


def test_leaving_early_closes_the_loop_and_the_log(run, step_done):
    ended = []

    def train():
        try:
            for step in range(100):
                yield step_done(step)
        finally:
            ended.append(True)

    recorded = record(train(), {run.id: run})
    next(recorded)
    recorded.close()
    assert ended == [True]
    assert len(read_events(run.events_file).events) == 1


def test_a_full_disk_is_reported_once_and_the_gap_is_written_down(run, step_done, finished, failing, capsys):
    def train():
        yield step_done(1)
        for step in (2, 3):
            with failing(1, errno.ENOSPC):
                yield step_done(step)
        yield finished(3)

    seen = list(record(train(), {run.id: run}))
    assert [event.step for event in seen] == [1, 2, 3, 3]
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert "No space left on device; training continues" in complaint
    events = read_events(run.events_file).events
    assert [event.step for event in events] == [1, 3, 3]
    assert isinstance(events[1], Warned)
    assert events[1].message.startswith("2 events are missing")
    assert run.summary_file.exists()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_no_failure_of_any_call_stops_the_training(tmp_path, step_done, finished, failing, code, capsys):
    events = [step_done(1, run="a"), finished(1, run="a")]
    for nth in range(1, 20):
        run = create_run(tmp_path / str(nth), "a", "")
        with failing(nth, code) as called:
            assert list(record(events, {"a": run})) == events
        if len(called) < nth:
            break
    assert capsys.readouterr().err.count("training continues") == nth - 1
    assert [event.step for event in read_events(run.events_file).events] == [1, 1]


def test_a_log_that_can_never_be_written_does_not_stop_the_training(run, step_done, finished, capsys):
    run.events_file.unlink()
    run.events_file.mkdir()
    events = [step_done(1), finished(1)]
    assert list(record(events, {run.id: run})) == events
    assert "Is a directory; training continues" in capsys.readouterr().err
