"""A recorded loop leaves its log and its summary, and a failing disk never stops it."""

import errno

import pytest

from workbench.events import RunResumed, Warned
from workbench.runs.directory import create_run
from workbench.runs.log import read_events
from workbench.runs.record import record


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
