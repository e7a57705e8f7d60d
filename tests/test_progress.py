import re
import threading
import time

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from workbench import progress
from workbench.progress import hosted, phase, track


@pytest.fixture(autouse=True)
def _new_reporter(monkeypatch):
    monkeypatch.setattr(progress, "_reporter", progress._Reporter())


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr(progress, "BAR_AFTER_S", 0.0)


def wait_for(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_short_work_prints_nothing(capsys):
    assert list(track("abc", "reading letters", 3)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_a_log_gets_lines_also_while_nothing_is_counted(capsys, monkeypatch):
    monkeypatch.setattr(progress, "BAR_AFTER_S", 0.0)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.02)
    printed = []
    with phase("encoding test images", 5000) as one:
        one.advance(1200)
        wait_for(lambda: printed.append(capsys.readouterr().err) or "".join(printed).count("\n") >= 3)
    lines = "".join(printed).splitlines()
    assert all(re.fullmatch(r"encoding test images 1,200/5,000, \d+ s", line) for line in lines)


def test_lines_are_ten_seconds_apart_over_phases_that_follow_one_another(capsys, monkeypatch):
    monkeypatch.setattr(progress, "BAR_AFTER_S", 0.0)
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    for number in range(7):  # of four seconds each
        with phase(f"part {number}", 1) as one:
            clock[0] += 4.0
            one.advance()
    assert re.findall(r"part \d", capsys.readouterr().err) == ["part 2", "part 5"]


def test_no_thread_is_left():
    before = threading.active_count()
    for _ in range(20):
        with phase("loading"):
            pass
    wait_for(lambda: threading.active_count() <= before)


def test_an_error_ends_the_phase():
    with pytest.raises(ValueError, match="broken"), phase("loading"):
        raise ValueError("broken")
    assert progress._reporter._open == []


@pytest.mark.usefixtures("terminal")
def test_a_terminal_gets_a_bar(capsys):
    with phase("encoding test images", 40) as one:
        one.advance(20)
    shown = capsys.readouterr().err
    assert "encoding test images" in shown
    assert "20/40" in shown
    with phase("loading PyTorch") as one:
        one.advance(0)
    shown = capsys.readouterr().err
    assert "loading PyTorch" in shown
    assert "0/" not in shown


def test_phases_are_rows_of_the_bars_that_are_there(monkeypatch):
    monkeypatch.setattr(progress, "BAR_AFTER_S", 0.0)
    console = Console(stderr=True, force_terminal=True)
    with Progress(TextColumn("{task.fields[loss]}"), console=console) as bars, hosted(bars, loss=""):
        with phase("encoding test images", 40) as one:
            one.advance(20)
            assert [(task.description, task.completed, task.total) for task in bars.tasks] == [("test images", 20, 40)]
        assert bars.tasks == []


def test_items_pass_through_and_one_line_is_printed(capsys):
    assert list(progress.progress(iter("abc"), 3_000, "drawing letters")) == ["a", "b", "c"]
    assert capsys.readouterr().err == "drawing letters (3,000 pairs)\n"


@pytest.mark.usefixtures("terminal")
def test_items_with_a_bar_in_a_terminal(capsys):
    assert list(progress.progress(range(200), 0, "drawing letters")) == list(range(200))
    assert "drawing letters" in capsys.readouterr().err


def test_details_are_in_the_first_line(capsys):
    assert list(progress.progress("ab", 2, "preparing", "letters", details="2 bytes")) == ["a", "b"]
    assert capsys.readouterr().err == "preparing 2 bytes (2 letters)\n"


@pytest.mark.usefixtures("terminal")
def test_in_a_terminal_the_details_precede_the_bar(capsys):
    assert list(progress.progress("ab", 2, "preparing", details="2 bytes")) == ["a", "b"]
    printed = capsys.readouterr().err
    assert printed.startswith("preparing 2 bytes\n")
    assert printed.count("2 bytes") == 1
