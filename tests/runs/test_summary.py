"""What came out of a run, from its log."""

import json
import math

import pytest

from workbench.events import CheckpointSaved, EvalDone, RunResumed
from workbench.runs.directory import RunDirectory
from workbench.runs.log import EventLog
from workbench.runs.summary import read_summary, summarise, summary_or_reason, write_summary


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


@pytest.fixture
def say(run):
    def append(*events):
        with EventLog(run.events_file) as log:
            for event in events:
                log.append(event)

    return append


def test_the_document_has_what_the_surface_promises(run, say, started, step_done, finished):
    say(
        started(num_steps=20),
        evaluated(10, "validation", zero_shot_top1=0.1),
        step_done(20),
        saved(20, "abc"),
        evaluated(20, "validation", zero_shot_top1=0.5),
        evaluated(20, "test", zero_shot_top1=0.4),
        finished(20, reason="the end", elapsed_s=61.5),
    )
    assert summarise(run).to_document() == {
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
        "elapsed_s": 61.5,
        "reason": "the end",
    }


def test_without_a_validation_split_the_last_evaluation_counts(run, say):
    say(evaluated(1, "test", a=1.0), evaluated(2, "photos", a=2.0))
    summary = summarise(run)
    assert (summary.metrics, summary.test_metrics) == ({"a": 2.0}, {"a": 1.0})


def test_a_run_that_has_said_nothing_has_an_empty_summary(run):
    summary = summarise(run)
    assert (summary.state, summary.step, summary.metrics, summary.weights_sha256) == ("new", 0, {}, "")
    assert (summary.elapsed_s, summary.reason) == (0.0, "")


def test_a_dead_run_shows_its_last_step(run, say, started, step_done):
    say(started(), step_done(7, elapsed_s=3.5))
    summary = read_summary(run)
    assert (summary.state, summary.step, summary.elapsed_s) == ("dead", 7, 3.5)


def test_superseded_evaluations_and_checkpoints_do_not_count(run, say, started, finished):
    say(started(), evaluated(10, "validation", a=1.0), saved(10, "ten"))
    say(evaluated(20, "validation", a=2.0), saved(20, "twenty"), finished(20))
    say(RunResumed(run="a", step=10, host="elsewhere", pid=1))
    summary = summarise(run)
    assert (summary.metrics, summary.weights_sha256) == ({"a": 1.0}, "ten")
    assert summary.state != "finished"


def test_non_finite_metrics_are_strict_json_and_come_back(run, say, finished):
    say(evaluated(1, "validation", a=float("nan"), b=float("-inf")), finished(1, state="diverged"))
    write_summary(run)

    def refuse(token):
        raise AssertionError(token)

    document = json.loads(run.summary_file.read_text(), parse_constant=refuse)
    assert document["metrics"] == {"a": "NaN", "b": "-Infinity"}
    assert document == summarise(run).to_document()
    metrics = read_summary(run).metrics
    assert math.isnan(metrics["a"])
    assert metrics["b"] == float("-inf")


def test_a_written_summary_is_read_and_a_torn_one_is_computed_anew(run, say, finished):
    say(finished(5))
    write_summary(run)
    assert read_summary(run) == summarise(run)
    content = run.summary_file.read_text()
    run.summary_file.write_text(content.replace('"step": 5', '"step": 6'))
    assert read_summary(run).step == 6
    run.summary_file.write_text(content[:-30])
    assert read_summary(run).step == 5


def test_the_summary_of_a_run_that_was_moved_names_its_new_place(run, say, finished):
    say(finished(600))
    write_summary(run)
    moved = RunDirectory(run.path.rename(run.path.with_name("moved")))
    assert (read_summary(moved).id, read_summary(moved).dir) == ("moved", str(moved.path))


def test_among_many_runs_one_that_cannot_be_read_is_a_reason(run, say, finished):
    say(finished(600))
    assert summary_or_reason(run) == read_summary(run)
    run.events_file.unlink()
    run.events_file.mkdir()
    found = summary_or_reason(run)
    assert (found.id, found.state, found.metrics) == (run.id, "unreadable", {})
    assert found.reason == f"cannot read {run.events_file}: it is a folder, not a file"
    assert found.to_document()["state"] == "unreadable"
