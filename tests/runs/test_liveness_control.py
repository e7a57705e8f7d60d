"""Commands arrive once, in order, and rubbish never stops a run."""

import errno
import os
import time

import pytest

from workbench.runs.liveness import Command, send_command, take_commands
from workbench.runs.log import EventLog


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
