"""The log: whole lines whatever happens to the writer, and a reader that nothing can make raise."""

import errno
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.documents import UnreadableError
from workbench.events import EvalDone, RunFinished, RunResumed, StepDone, Unknown, Warned
from workbench.runs.log import (
    MOST_LINE_BYTES,
    MOST_LOG_BYTES,
    EventLog,
    effective_events,
    first_events,
    last_events,
    quiet_s,
    read_events,
    tail_events,
)


def steps(events):
    return [event.step for event in events]


def write(path, events):
    with EventLog(path) as log:
        for event in events:
            log.append(event)


def test_what_is_appended_is_read_back(tmp_path, step_done, started):
    path = tmp_path / "events.jsonl"
    events = [started(), step_done(1, loss=float("inf")), Warned(run="a", step=1, message="[/b]\n\u2028\x1b")]
    write(path, events[:1])
    write(path, events[1:])
    result = read_events(path)
    assert result.events == events
    assert result.num_skipped == 0


def test_a_missing_log_is_empty(tmp_path):
    assert read_events(tmp_path / "none").events == []
    assert tail_events(tmp_path / "none", 5) == ([], 0, 0)
    assert last_events(tmp_path / "none") == []
    assert quiet_s(tmp_path / "none") is None


@settings(deadline=None)  # it waits for the disk
@given(cut=st.floats(0, 1))
def test_a_log_truncated_at_any_byte_keeps_every_complete_line(tmp_path_factory, step_done, cut):
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    write(path, [step_done(step) for step in range(1, 6)])
    content = path.read_bytes()
    kept = content[: round(cut * len(content))]
    path.write_bytes(kept)
    whole = kept.count(b"\n") + (kept + b"\n" in content and not kept.endswith(b"\n") and kept != b"")
    is_torn = not kept.endswith(b"\n") and kept != b"" and kept + b"\n" not in content
    assert read_events(path) == type(read_events(path))([step_done_like(content, n) for n in range(whole)], is_torn)
    write(path, [step_done(9)])
    again = read_events(path)
    assert steps(again.events) == [*range(1, whole + 1), 9]
    assert again.num_skipped == is_torn


def step_done_like(content: bytes, line: int) -> StepDone:
    return StepDone.model_validate_json(content.splitlines()[line])


GARBAGE = [
    b"",
    b"   ",
    b"\x00\x00\x00",
    b"\xff\xfe",
    b"not json",
    b"[" * 100_000,
    b"9" * 5000,
    b"null",
    b'"text"',
    b"[]",
    b"{}",
    b'{"event":"StepDone"}',
    b'{"event":["StepDone"],"run":"a","step":1}',
    b'{"event":"Warned","run":"a","step":"x","message":"m"}',
    b'{"event":"Warned","run":"a","step":1e999,"message":"m"}',
    b'{"event":"Warned","run":"a","step":1,"message":{"a":1}}',
    b'{"event":"RunFinished","run":"a","step":1,"state":"exploded","elapsed_s":1}',
    b'{"event":"Warned","run":"a","step":1,"message":"\\ud800"}',
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_between_lines_is_counted_and_passed_over(tmp_path, step_done, garbage):
    path = tmp_path / "events.jsonl"
    write(path, [step_done(1)])
    with path.open("ab") as file:
        file.write(garbage + b"\n")
    write(path, [step_done(2)])
    result = read_events(path)
    assert steps(result.events) == [1, 2]
    assert result.num_skipped == (1 if garbage.strip() else 0)


@settings(deadline=None)  # it waits for the disk
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_no_bytes_make_the_readers_raise(tmp_path_factory, blobs):
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    path.write_bytes(b"\n".join(blobs))
    read_events(path)
    tail_events(path, 0)
    last_events(path)
    quiet_s(path)


def test_nan_and_infinity_tokens_of_other_writers_are_numbers(tmp_path, step_done):
    path = tmp_path / "events.jsonl"
    fields = json.loads(step_done(1).to_line()) | {"loss": float("nan"), "grad_norm": float("-inf")}
    path.write_text(json.dumps(fields) + "\n")  # writes the tokens NaN and -Infinity
    (event,) = read_events(path).events
    assert isinstance(event, StepDone)
    assert event.loss != event.loss
    assert event.grad_norm == float("-inf")


def test_a_tail_waits_for_the_line_to_end(tmp_path, step_done):
    path = tmp_path / "events.jsonl"
    first, second = (step_done(step).to_line().encode() + b"\n" for step in (1, 2))
    path.write_bytes(first + second[:40])
    events, offset, skipped = tail_events(path, 0)
    assert (steps(events), offset, skipped) == ([1], len(first), 0)
    assert tail_events(path, offset) == ([], offset, 0)
    path.write_bytes(first + second)
    events, offset, skipped = tail_events(path, offset)
    assert (steps(events), offset, skipped) == ([2], len(first) + len(second), 0)


def test_the_tail_of_a_replaced_file_restarts(tmp_path, step_done):
    path = tmp_path / "events.jsonl"
    write(path, [step_done(1), step_done(2)])
    _, offset, _ = tail_events(path, 0)
    path.unlink()
    write(path, [step_done(7)])
    assert steps(tail_events(path, offset)[0]) == [7]


@pytest.mark.parametrize("max_bytes", [1, 100, 1000, 10_000])
def test_a_tail_in_pieces_reads_what_a_tail_at_once_does(tmp_path, step_done, max_bytes):
    path = tmp_path / "events.jsonl"
    write(path, [step_done(step) for step in range(20)])
    pieces, offset = [], -1
    new_offset = 0
    while new_offset != offset:
        offset = new_offset
        events, new_offset, _ = tail_events(path, offset, max_bytes=max_bytes)
        pieces += events
    assert pieces == read_events(path).events
    assert offset == path.stat().st_size


def test_kinds_pick_events_and_spare_the_others(tmp_path, step_done, finished):
    path = tmp_path / "events.jsonl"
    write(path, [step_done(1), finished(1), step_done(2)])
    with path.open("ab") as file:
        file.write(b'{"schema":1,"event":"StepDone", torn\n{"schema": 7, "event": "RunFinished", torn\n')
    result = read_events(path, [RunFinished])
    assert result.events == [read_events(path).events[1]]
    assert result.num_skipped == 2  # also the torn line of another kind, which is seen to lack its end


def test_a_later_versions_events_are_kept(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"schema":9,"event":"Merged","run":"a","step":3,"time_s":1.5,"with":["b"]}\n')
    (event,) = read_events(path).events
    assert isinstance(event, Unknown)
    assert (event.event, event.step, event.model_extra["with"]) == ("Merged", 3, ["b"])


def test_first_and_last_events_do_not_depend_on_the_logs_length(tmp_path, step_done, started, finished):
    path = tmp_path / "events.jsonl"
    write(path, [started(), *(step_done(step) for step in range(1, 500)), finished(499)])
    assert first_events(path)[0] == read_events(path).events[0]
    assert last_events(path)[-1] == read_events(path).events[-1]
    assert len(first_events(path)) + len(last_events(path)) < 150
    with path.open("ab") as file:
        file.write(b"x" * 100_000)
    assert isinstance(last_events(path)[-1], RunFinished)


@pytest.mark.parametrize("num_evaluations", [0, 100, 10_000])
def test_the_last_step_is_found_before_any_number_of_evaluations(
    tmp_path, step_done, started, finished, num_evaluations
):
    path = tmp_path / "events.jsonl"
    evaluated = EvalDone(run="a", step=9, split="test", num_pairs=1, metrics={"recall": 0.5}, elapsed_s=1)
    write(path, [started(), *(step_done(step) for step in range(1, 10)), *[evaluated] * num_evaluations, finished(9)])
    steps = [event.step for event in last_events(path, StepDone) if isinstance(event, StepDone)]
    assert steps[-1] == 9
    assert isinstance(last_events(path, RunResumed)[-1], RunFinished)  # there is none


def test_a_resume_supersedes_what_lies_beyond_it(step_done, started, finished):
    def evaluated(step):
        return EvalDone(run="a", step=step, split="validation", num_pairs=1, metrics={}, elapsed_s=1)

    def resumed(step):
        return RunResumed(run="a", step=step, host="h", pid=1)

    first = [started(), step_done(100), evaluated(100), step_done(200), evaluated(200), finished(200)]
    again = [resumed(100), step_done(110), finished(110, state="stopped")]
    assert effective_events(first + again) == [*first[:3], *again]
    at_the_end = [resumed(200)]
    assert effective_events(first + at_the_end) == first[:5] + at_the_end
    twice = [*first, *again, resumed(0)]
    assert effective_events(twice) == [first[0], twice[-1]]


def test_silence_is_measured_by_the_event_but_never_by_a_clock_ahead_of_ours(tmp_path, step_done):
    path = tmp_path / "events.jsonl"
    write(path, [step_done(1, time_s=time.time() - 5000)])
    assert quiet_s(path) == pytest.approx(5000, abs=5)
    write(path, [step_done(2, time_s=time.time() + 5000)])
    os.utime(path, (time.time() - 70, time.time() - 70))
    assert quiet_s(path) == pytest.approx(70, abs=5)


def test_a_clock_set_back_changes_nothing(tmp_path, step_done):
    path = tmp_path / "events.jsonl"
    write(path, [step_done(1, time_s=100.0), step_done(2, time_s=50.0), step_done(3, time_s=float("nan"))])
    assert steps(read_events(path).events) == [1, 2, 3]
    assert quiet_s(path) < 60


def test_all_but_steps_are_on_disk_before_append_returns(tmp_path, step_done, finished, failing):
    with EventLog(tmp_path / "events.jsonl") as log, failing(0, errno.EIO) as called:
        log.append(step_done(1))
        assert called == ["write"]
        log.append(finished(1))
        assert called == ["write", "write", "fsync"]


def test_a_failing_disk_tears_at_most_the_line_it_failed_in(tmp_path, step_done, failing):
    for nth in itertools.count(1):
        path = tmp_path / str(nth)
        with EventLog(path) as log, failing(nth, errno.ENOSPC):
            written = []
            for step in range(1, 4):
                try:
                    log.append(step_done(step))
                except OSError:
                    continue
                written.append(step)
        result = read_events(path)
        assert steps(result.events) == written
        assert result.num_skipped == 0
        if written == [1, 2, 3]:
            break
    assert nth == 4


def test_a_disk_that_fills_up_within_a_line_tears_that_line_only(tmp_path, step_done, monkeypatch):
    path = tmp_path / "events.jsonl"
    real = os.write
    with EventLog(path) as log:
        log.append(step_done(1))
        with monkeypatch.context() as full:
            room = iter([50])

            def write_some(descriptor, data):
                if (left := next(room, 0)) == 0:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return real(descriptor, data[:left])

            full.setattr(os, "write", write_some)
            with pytest.raises(OSError, match="No space left"):
                log.append(step_done(2))
        log.append(step_done(3))
    result = read_events(path)
    assert steps(result.events) == [1, 3]
    assert result.num_skipped == 1


def test_a_kill_at_any_moment_loses_no_line_that_was_appended(tmp_path, step_done, killed):
    path = tmp_path / "events.jsonl"

    def append_forever(counter):
        with EventLog(path) as log:
            for step in itertools.count(len(read_events(path).events) + 1):
                log.append(step_done(step) if step % 7 else Warned(run="a", step=step, message="x" * 5000))
                counter.value += 1

    total = 0
    for num_kills, count in enumerate(killed(append_forever, 15), start=1):
        result = read_events(path)
        assert result.num_skipped <= num_kills  # only the last line of a life can be torn
        assert steps(result.events) == list(range(1, len(result.events) + 1))
        assert len(result.events) - total in (count, count + 1)
        total = len(result.events)
    assert total > 15


def test_two_writers_never_mix_their_lines(tmp_path, step_done, forked):
    path = tmp_path / "events.jsonl"

    def append(name):
        with EventLog(path) as log:
            for step in range(300):
                log.append(step_done(step, run=name * 500))

    with forked(append, "a") as first, forked(append, "b") as second:
        first.join()
        second.join()
    result = read_events(path)
    assert result.num_skipped == 0
    for name in "ab":
        assert steps(event for event in result.events if event.run[0] == name) == list(range(300))


def test_a_hundred_thousand_lines_are_read_in_seconds(tmp_path, step_done, finished):
    path = tmp_path / "events.jsonl"
    line = step_done(1).to_line().encode() + b"\n"
    path.write_bytes(line * 50_000 + b'{"torn\n' + line * 50_000 + finished(1).to_line().encode())
    start = time.process_time()
    result = read_events(path)
    read_s = time.process_time() - start
    assert (len(result.events), result.num_skipped) == (100_001, 1)
    start = time.process_time()
    assert len(read_events(path, [RunFinished]).events) == 1
    pick_s = time.process_time() - start
    start = time.process_time()
    assert isinstance(last_events(path)[-1], RunFinished)
    last_s = time.process_time() - start
    assert read_s < 10
    assert pick_s < read_s
    assert last_s < 0.1


def test_kinds_that_are_not_wanted_are_passed_over_but_torn_lines_are_counted(tmp_path, step_done):
    path = tmp_path / "events.jsonl"
    write(path, [step_done(1), Warned(run="a", step=1, message="m"), step_done(2)])
    with path.open("ab") as file:
        file.write(step_done(3).to_line().encode()[:60] + b"\n")
    result = read_events(path, (Warned,))
    assert [type(event) for event in result.events] == [Warned]
    assert result.num_skipped == read_events(path).num_skipped == 1


MILLION = """
import json, re, sys, time
from pathlib import Path
from workbench.events import EvalDone, Warned
from workbench.runs.log import effective_events, last_events, quiet_s, read_events

path = Path(sys.argv[1])
start = time.process_time()
found = read_events(path, (EvalDone, Warned))
held = effective_events(found.events)
print(json.dumps({
    "time_s": time.process_time() - start,
    "peak_mb": int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 2**10,
    "steps": [event.step for event in held],
    "num_skipped": found.num_skipped,
    "last": last_events(path)[-1].step,
    "quiet_s": quiet_s(path),
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc/self/status")
def test_a_million_lines_are_read_in_seconds_and_little_memory(tmp_path, step_done):
    """With a clock that is set back, losses that are not numbers, and a last line that was never finished."""
    path = tmp_path / "events.jsonl"
    number, steps_between = 1_000_000, 100_000
    numbered, lost = (step_done(7_777, time_s=1.5e9, loss=loss).to_line() for loss in (2.0, float("nan")))
    now = time.time()
    with path.open("w") as file:
        for step in range(1, number + 1):
            line = (lost if step % 1000 == 0 else numbered).replace("7777", str(step), 1)
            file.write(line.replace("1500000000.0", str(now - (step % 5000))) + "\n")
            if step % steps_between == 0:
                evaluated = {"time_s": now, "split": "validation", "num_pairs": 1, "metrics": {}, "elapsed_s": 1}
                file.write(EvalDone(run="a", step=step, **evaluated).to_line() + "\n")
        file.write(numbered[:50])
    command = [sys.executable, "-c", MILLION, str(path)]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert report["steps"] == list(range(steps_between, number + 1, steps_between))
    assert report["num_skipped"] == 1
    assert report["last"] == number
    assert 0 <= report["quiet_s"] < 600
    assert report["time_s"] < 20  # 1.5 on the machine that this was written on
    assert report["peak_mb"] < 200  # 85; all of it as events takes 2,700


def test_a_line_or_a_log_that_is_too_long_is_refused_by_its_size(tmp_path, step_done):
    path = tmp_path / "events.jsonl"
    line = step_done(1).to_line().encode() + b"\n"
    path.write_bytes(line + b"x" * (MOST_LINE_BYTES + 1))
    with pytest.raises(UnreadableError, match=f"the line at byte {len(line)} is longer than 4,194,304 bytes"):
        read_events(path)
    assert [event.step for event in first_events(path)] == [1]
    assert [event.step for event in last_events(path)] == [1]
    with path.open("r+b") as file:
        file.truncate(MOST_LOG_BYTES + 1)
    with pytest.raises(UnreadableError, match="it has 4,000,000,001 bytes"):
        tail_events(path, 0, max_bytes=1000)
    with pytest.raises(UnreadableError, match="hold no event"):
        last_events(path)


@pytest.mark.parametrize("max_bytes", [None, 100, 5_000_000])
def test_a_line_just_within_the_bound_is_counted_and_passed_over(tmp_path, step_done, max_bytes):
    path = tmp_path / "events.jsonl"
    line = step_done(1).to_line().encode() + b"\n"
    path.write_bytes(b"x" * (MOST_LINE_BYTES - 1) + b"\n" + line)
    found, offset, num_skipped = tail_events(path, 0, max_bytes=max_bytes)
    rest, end, _ = tail_events(path, offset, max_bytes=max_bytes)
    assert (len(found + rest), num_skipped, end) == (1, 1, MOST_LINE_BYTES + len(line))
    assert read_events(path).num_skipped == 1
