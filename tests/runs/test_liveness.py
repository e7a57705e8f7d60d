"""The lock and the state of a run; commands arrive once, in order, and garbage never stops a run."""

import errno
import fcntl
import multiprocessing
import os
import time

import pytest

from workbench.events import EvalDone, EvalStarted, RunResumed
from workbench.process import boot_id, started_at, this_host
from workbench.runs.directory import RunDirectory, list_runs
from workbench.runs.liveness import Command, Owner, RunLock, read_owner, run_status, send_command, take_commands
from workbench.runs.log import EventLog
from workbench.tui.text import is_quiet, state_text


def elsewhere(run, since_s=0.0):
    owner = Owner(host="elsewhere", pid=1, started="x", boot="y", since_s=since_s)
    run.owner_file.write_text(owner.model_dump_json())


def test_a_new_run(run):
    status = run_status(run)
    assert (status.state, status.step, status.num_steps, status.quiet_s) == ("new", 0, 0, None)
    assert (status.recipe, status.owner) == ("clip-kd", None)
    with RunLock(run):
        assert run_status(run).state == "new"


def test_a_run_of_a_live_process(run, append, started, step_done):
    with RunLock(run):
        append(started(), step_done(40, time_s=time.time() - 5))
        status = run_status(run)
    assert (status.state, status.step, status.num_steps) == ("running", 40, 600)
    assert status.quiet_s == pytest.approx(5, abs=2)
    assert status.owner.pid == os.getpid()


def test_a_live_process_is_running_without_a_heartbeat_timeout(run, append, started):
    with RunLock(run):
        append(started(time_s=time.time() - 5000))
        assert run_status(run).state == "running"


def test_a_live_run_shows_the_split_under_evaluation(run, append, started):
    begun = EvalStarted(run="one", step=40, split="test", num_pairs=5000, time_s=time.time() - 76)
    with RunLock(run):
        append(started(), begun)
        assert run_status(run).evaluating == "test"
        assert not is_quiet(run_status(run), 1.0)
        assert state_text(run_status(run), is_quiet=False) == "evaluating"
        append(
            EvalDone(run="one", step=40, split="test", num_pairs=5000, metrics={}, elapsed_s=76, time_s=begun.time_s)
        )
        assert run_status(run).evaluating == ""
        assert is_quiet(run_status(run), 1.0)
    append(begun)
    assert run_status(run).evaluating == ""  # its process is gone


@pytest.mark.parametrize("state", ["finished", "stopped", "interrupted", "diverged", "failed"])
def test_an_ended_run_has_its_logged_state(run, append, started, step_done, finished, state):
    with RunLock(run):
        append(started(), step_done(10), finished(10, state=state))
        assert run_status(run).state == state
    assert run_status(run).state == state


def test_a_killed_process_leaves_a_dead_run(run, append, started, step_done, forked):
    def train():
        with RunLock(run):
            append(started(), step_done(10))
            time.sleep(60)

    with forked(train) as process:
        while run_status(run).step < 10:
            time.sleep(0.01)
        assert run_status(run).state == "running"
        process.kill()
        process.join()
        assert run_status(run).state == "dead"


def test_a_killed_process_that_is_not_yet_buried_is_dead(run, append, started):
    child = os.fork()
    if child == 0:
        RunLock(run).__enter__()
        append(started())
        os.kill(os.getpid(), 9)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert run_status(run).state == "dead"
    os.waitpid(child, 0)
    assert run_status(run).state == "dead"


def test_a_process_that_died_before_its_first_event(run, forked):
    def load(run):
        RunLock(run).__enter__()
        os.kill(os.getpid(), 9)

    with forked(load, run) as process:
        process.join()
    assert run_status(run).state == "dead"


def test_an_orderly_end_without_an_event_is_dead(run, append, started):
    with RunLock(run):
        append(started())
    assert run_status(run).state == "dead"


def test_another_hosts_run_is_running_until_its_heartbeat_times_out(run, append, started, step_done, finished):
    elsewhere(run)
    assert run_status(run).state == "silent"
    append(started(host="elsewhere"), step_done(3, time_s=time.time() - 599))
    assert run_status(run).state == "running"
    append(step_done(4, time_s=time.time() - 601))
    assert run_status(run).state == "silent"
    append(finished(4, time_s=time.time() - 600))
    assert run_status(run).state == "finished"


def test_another_hosts_run_copied_here_without_its_lock(run, append, started):
    append(started(host="elsewhere", time_s=time.time() - 90))
    assert run_status(run).state == "running"
    append(RunResumed(run=run.id, step=0, host=this_host(), pid=1, time_s=time.time() - 90))
    assert run_status(run).state == "dead"


def test_a_resumed_run_is_no_longer_what_it_ended_as(run, append, started, step_done, finished):
    append(started(), step_done(10), finished(10, state="stopped", time_s=time.time() - 50))
    with RunLock(run):
        assert run_status(run).state == "running"  # models are loading: not a word yet
        append(RunResumed(run=run.id, step=8, host=this_host(), pid=os.getpid()))
        status = run_status(run)
        assert (status.state, status.step) == ("running", 8)
    assert run_status(run).state == "dead"


def test_a_run_whose_files_are_garbage_still_has_a_state(run):
    run.events_file.write_bytes(b"\xff\x00\n{\n")
    run.config_file.write_bytes(b"\xff = [")
    run.owner_file.write_bytes(b"{")
    status = run_status(run)
    assert (status.state, status.recipe) == ("new", "")


def test_two_hundred_runs_are_listed_in_half_a_second(tmp_path, started, step_done, finished):
    lines = [started(), *(step_done(step) for step in range(300))]
    log = "".join(event.to_line() + "\n" for event in lines)
    config = "".join(f'setting_{number} = "value"\n' for number in range(80))
    for number in range(200):
        run = RunDirectory(tmp_path / f"run-{number}")
        run.path.mkdir()
        run.config_file.write_text('recipe = "clip-kd"\n' + config)
        ending = finished(300).to_line() + "\n" if number % 2 else ""
        run.events_file.write_text(log + ending)

    def look() -> float:
        start = time.process_time()  # not the clock: the machine may be busy
        states = [run_status(run).state for run in list_runs(tmp_path)]
        assert sorted(states) == ["dead"] * 100 + ["finished"] * 100
        return time.process_time() - start

    assert min(look() for _ in range(3)) < 0.5


def hold(run, ready):
    with RunLock(run):
        ready.set()
        time.sleep(60)


@pytest.fixture
def ready():
    return multiprocessing.get_context("fork").Event()


def test_the_owner_is_named_while_the_lock_is_held_and_not_after(run):
    with RunLock(run):
        owner = read_owner(run)
        assert (owner.host, owner.pid) == (this_host(), os.getpid())
        assert owner.is_alive(run)
    assert read_owner(run) is None
    with RunLock(run):  # and it can be taken again
        pass


def test_a_live_holder_is_named_with_its_host_and_what_to_do(run, forked, ready):
    with forked(hold, run, ready) as holder:
        assert ready.wait(10)
        expected = rf"process {holder.pid} on {this_host()} \(no event yet\).*workbench runs stop clip-kd-s0"
        with pytest.raises(ValueError, match=expected), RunLock(run):
            pass
        assert read_owner(run).pid == holder.pid


def test_a_killed_holders_lock_and_half_written_files_are_taken_over(run, forked, ready):
    with forked(hold, run, ready) as holder:
        assert ready.wait(10)
        (run.checkpoints / ".tmp-step-00000100").mkdir()
        (run.path / ".tmp-summary.json-1").write_text("")
    owner = read_owner(run)
    assert owner.pid == holder.pid
    assert not owner.is_alive(run)
    with RunLock(run):
        assert read_owner(run).pid == os.getpid()
        assert list(run.checkpoints.iterdir()) == []
        assert not (run.path / ".tmp-summary.json-1").exists()


def test_one_process_cannot_hold_it_twice(run):
    with RunLock(run):
        with pytest.raises(ValueError, match=f"process {os.getpid()}"), RunLock(run):
            pass
        assert read_owner(run).pid == os.getpid()


def test_a_worker_that_outlives_its_killed_parent_does_not_keep_the_lock(run, forked, ready):
    def train_with_a_worker(run, ready, worker):
        with RunLock(run):
            if os.fork() == 0:
                worker.value = os.getpid()
                ready.set()
            time.sleep(60)

    worker = multiprocessing.get_context("fork").Value("q", 0, lock=False)
    with forked(train_with_a_worker, run, ready, worker):
        assert ready.wait(10)
    try:
        assert started_at(worker.value)
        with RunLock(run):
            pass
    finally:
        os.kill(worker.value, 9)


def test_a_forked_child_that_leaves_the_block_releases_nothing(run):
    with RunLock(run) as held:
        child = os.fork()
        if child == 0:
            held.__exit__(None, None, None)
            os._exit(0)
        os.waitpid(child, 0)
        assert read_owner(run) is not None
        with pytest.raises(ValueError, match="is being written by"), RunLock(run):
            pass


def test_a_holder_without_a_name_is_not_given_a_wrong_one(run):
    note(run, started="before")  # a dead trainer, of which a child still has the lock open
    with run.lock_file.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match=r"locked by an unknown process: .* fuser .*lock$"), RunLock(run):
            pass


def note(run, **changes):
    fields = {
        "host": this_host(),
        "pid": os.getpid(),
        "started": started_at(os.getpid()),
        "boot": boot_id(),
        "since_s": time.time(),
    }
    run.owner_file.write_text(Owner(**fields | changes).model_dump_json())
    return read_owner(run)


def test_a_pid_that_now_belongs_to_another_process_is_not_the_owner(run):
    assert note(run).is_alive(run)
    assert not note(run, started="another boot/123").is_alive(run)
    assert not note(run, pid=2**22 + 1).is_alive(run)


def test_another_machines_run_is_judged_by_its_silence(run, step_done):
    def speak(ago_s):
        with EventLog(run.events_file) as log:
            log.append(step_done(1, time_s=time.time() - ago_s))

    elsewhere = {"host": "elsewhere", "boot": "other"}
    assert note(run, **elsewhere).is_alive(run)  # it has just begun
    assert not note(run, **elsewhere, since_s=time.time() - 700).is_alive(run)
    assert not note(run, **elsewhere, since_s=time.time() + 7000).is_alive(run)  # a clock far ahead
    speak(20)
    assert note(run, **elsewhere, since_s=time.time() - 7000).is_alive(run)
    with pytest.raises(ValueError, match=r"on elsewhere \(last event 2\d s ago\)"), RunLock(run):
        pass
    note(run, **elsewhere, since_s=time.time() - 5)
    with pytest.raises(ValueError, match=r"on elsewhere \(no event yet\)"), RunLock(run):  # the event is older
        pass
    speak(700)
    assert not note(run, **elsewhere, since_s=time.time() - 7000).is_alive(run)
    with RunLock(run):
        assert read_owner(run).host == this_host()


def test_another_container_on_this_machine_that_died_is_taken_over_at_once(run):
    if not boot_id():
        pytest.skip("this kernel has no boot id")
    note(run, host="old-container")
    with RunLock(run):
        pass


def test_without_file_locks_the_owners_note_decides(run, monkeypatch, forked, ready):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with forked(hold, run, ready):
        assert ready.wait(10)
        with pytest.raises(ValueError, match="is being written by"), RunLock(run):
            pass
    with RunLock(run):
        pass


@pytest.mark.parametrize("garbage", [b"", b"{", b"\xff", b"[]", b'{"pid": "x"}'])
def test_a_damaged_owner_file_is_ignored(run, garbage):
    run.owner_file.write_bytes(garbage)
    assert read_owner(run) is None
    with RunLock(run):
        assert read_owner(run) is not None


def test_a_read_only_run_is_an_error_with_the_remedy(run, failing):
    remedy = "make it writable, or copy the run to another disk and resume it there: workbench runs resume COPY"
    with failing(1, errno.EROFS), pytest.raises(ValueError, match=f"cannot write .*: read-only .*; {remedy}$"):
        RunLock(run).__enter__()
    with failing(1, errno.ENOSPC), pytest.raises(ValueError, match=r"no space left on device; make room there$"):
        RunLock(run).__enter__()
    with RunLock(run):
        pass


def test_of_many_processes_exactly_one_gets_the_lock(run, forked):
    def race(start, decided):
        start.wait()
        try:
            with RunLock(run):
                decided.wait()
        except ValueError:
            decided.wait()
            os._exit(3)

    for _ in range(5):
        start, decided = (multiprocessing.get_context("fork").Barrier(3) for _ in range(2))
        with (
            forked(race, start, decided) as first,
            forked(race, start, decided) as second,
            forked(race, start, decided) as third,
        ):
            racers = (first, second, third)
            for racer in racers:
                racer.join()
        assert sorted(racer.exitcode for racer in racers) == [0, 3, 3]


def test_commands_are_taken_once_in_the_order_they_were_sent(run):
    send_command(run, "checkpoint")
    send_command(run, "pause")
    send_command(run, "set", key="loss.icl.weight", value=2.5)
    assert take_commands(run) == [
        Command(kind="checkpoint"),
        Command(kind="pause"),
        Command(kind="set", arguments={"key": "loss.icl.weight", "value": 2.5}),
    ]
    assert take_commands(run) == []
    assert list(run.control.iterdir()) == []


def test_a_clock_set_back_does_not_change_the_order(run, monkeypatch):
    now = time.time_ns()
    for number, shift_s in enumerate([0, -100, 50, -200]):
        with monkeypatch.context() as clock:
            clock.setattr(time, "time_ns", lambda shift_s=shift_s: now + shift_s * 10**9)
            send_command(run, str(number))
    assert [command.kind for command in take_commands(run)] == ["0", "1", "2", "3"]


def test_an_ended_run_refuses_commands(run, step_done, finished):
    with EventLog(run.events_file) as log:
        log.append(step_done(1))
    with pytest.raises(ValueError, match=r"is dead: there is no process to stop.*workbench runs resume clip-kd-s0"):
        send_command(run, "stop")
    with EventLog(run.events_file) as log:
        log.append(finished(1))
    with pytest.raises(ValueError, match=r"is finished: there is no process to pause$"):
        send_command(run, "pause")
    assert list(run.control.iterdir()) == []


GARBAGE = [b"", b"{", b"\xff\xff", b"[]", b'"stop"', b'{"kind": 3}', b'{"kind":"stop","arguments":[1]}', b"[" * 9999]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_removed_and_reported(run, garbage):
    (run.control / "0.json").write_bytes(garbage)
    send_command(run, "stop")
    unreadable, stop = take_commands(run)
    assert (unreadable.kind, unreadable.arguments["file"]) == ("unreadable", "0.json")
    assert "not a command" in unreadable.arguments["reason"]
    assert stop == Command(kind="stop")
    assert take_commands(run) == []


def test_special_files_are_removed_unread(run, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text('{"kind": "stop"}')
    (run.control / "folder").mkdir()
    (run.control / "folder" / "file").write_text("")
    (run.control / "link").symlink_to(precious)
    os.mkfifo(run.control / "pipe")  # reading it would block for ever
    commands = take_commands(run)
    assert [command.arguments["file"] for command in commands] == ["folder", "link", "pipe"]
    assert {command.arguments["reason"] for command in commands} == {"not a regular file"}
    assert list(run.control.iterdir()) == []
    assert precious.exists()


def test_a_huge_file_is_not_fully_read(run):
    with (run.control / "huge").open("wb") as file:
        file.truncate(2**33)
    start = time.perf_counter()
    assert [command.kind for command in take_commands(run)] == ["unreadable"]
    assert time.perf_counter() - start < 1


def test_a_command_that_is_still_being_written_waits(run):
    (run.control / ".tmp-0.json").write_bytes(b"{")
    assert take_commands(run) == []
    assert (run.control / ".tmp-0.json").exists()


def test_a_folder_that_is_gone_holds_no_commands(run):
    run.control.rmdir()
    assert take_commands(run) == []
    send_command(run, "stop")  # and is made again
    assert [command.kind for command in take_commands(run)] == ["stop"]


def test_a_full_disk_is_one_line(run, failing):
    with failing(2, errno.ENOSPC), pytest.raises(ValueError, match="cannot stop run 'clip-kd-s0': disk full at"):
        send_command(run, "stop")
    assert list(run.control.iterdir()) == []


def test_commands_of_several_senders_all_arrive(run, forked):
    def send(name):
        for number in range(30):
            send_command(run, name, number=number)

    taken = []
    with forked(send, "a") as first, forked(send, "b") as second:
        while first.is_alive() or second.is_alive():
            taken += take_commands(run)
    taken += take_commands(run)
    for name in "ab":
        assert [c.arguments["number"] for c in taken if c.kind == name] == list(range(30))


def test_polling_an_empty_folder_costs_microseconds(run):
    def poll_s() -> float:
        start = time.process_time()
        for _ in range(200):
            take_commands(run)
        return (time.process_time() - start) / 200

    assert min(poll_s() for _ in range(10)) < 50e-6
