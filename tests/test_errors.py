"""An unknown name gets the nearest match."""

import doctest
import errno
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from workbench import errors
from workbench.errors import MAX_LISTED, lossy_stderr, print_error, reason, unknown, visible


def test_the_example_in_the_docstring_is_what_happens():
    assert doctest.testmod(errors) == doctest.TestResults(failed=0, attempted=1)


@pytest.mark.parametrize(
    ("name", "choices", "remedy"),
    [
        ("clip_kd", ["baseline", "clip-kd"], "did you mean 'clip-kd'?"),
        ("num_step", {"num_pairs", "num_steps"}, "did you mean 'num_steps'?"),
        ("zzz", ("fd", "clip", "icl"), "choose one of: clip, fd, icl"),
        ("", ["fd"], "choose one of: fd"),
    ],
)
def test_the_remedy(name, choices, remedy):
    assert str(unknown("thing", name, choices)) == f"unknown thing '{name}': {remedy}"


def test_of_many_choices_only_the_first_are_listed():
    names = [f"{number:03d}" for number in range(MAX_LISTED + 1)]
    assert str(unknown("thing", "zzz", names[:-1])).endswith(": " + ", ".join(names[:-1]))
    assert str(unknown("thing", "zzz", names)).endswith(": " + ", ".join(names[:-1]) + ", ...")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("first\nsecond"), "first"),
        (AssertionError(), "AssertionError"),
        (EOFError(""), "EOFError"),
        (KeyError("embed_dim"), "KeyError 'embed_dim'"),
        (FileNotFoundError(2, "No such file", "x.pt"), "[Errno 2] No such file: 'x.pt'"),
    ],
)
def test_the_first_line_or_the_type(error, words):
    assert reason(error) == words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("icl_weight-0.5", "icl_weight-0.5"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("\x9b31m", r"\x9b31m"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x7f\x00", r"\x7f\x00"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("\udcff", r"\udcff"),
        ("\U000e0001", r"\U000e0001"),
        ("λ → 图 é \N{NO-BREAK SPACE}", "λ → 图 é \N{NO-BREAK SPACE}"),
        ("\N{MAN}\u200d\N{PERSONAL COMPUTER}", "\N{MAN}\u200d\N{PERSONAL COMPUTER}"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(visible(text)) == shown


def test_no_character_of_unicode_steers() -> None:
    every = set(visible("".join(map(chr, range(sys.maxunicode + 1)))))
    left = {unicodedata.category(one) for one in every}
    assert {"Lu", "Nd", "So"} <= left
    assert not left & {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert {one for one in every if unicodedata.category(one) == "Cf"} == {"\u200c", "\u200d"}


def test_a_message_keeps_its_lines_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("two\nlines\x1b[H\r")
    assert capsys.readouterr().err == "two\nlines\\x1b[H\\r\n"


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


class Stream:
    """A stream on a disk that is full while ``is_full``."""

    def __init__(self, code: int = errno.ENOSPC) -> None:
        self.code, self.is_full, self.text = code, True, ""

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(self.code, os.strerror(self.code))
        self.text += text
        return len(text)

    def flush(self) -> None:
        self.write("")


def test_messages_are_dropped_while_the_disk_is_full_and_the_gap_is_reported(monkeypatch) -> None:
    stream = Stream()
    monkeypatch.setattr(sys, "stderr", stream)
    with lossy_stderr():
        print("lost", file=sys.stderr, flush=True)
        stream.is_full = False
        print("kept", file=sys.stderr, flush=True)
        print("too", file=sys.stderr)
    assert sys.stderr is stream
    gap, *kept = stream.text.splitlines()
    assert "missing" in gap
    assert kept == ["kept", "too"]


def test_other_errors_are_raised(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", Stream(errno.EBADF))
    with lossy_stderr(), pytest.raises(OSError, match="Bad file descriptor"):
        print("x", file=sys.stderr)


@needs_full
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_results_that_cannot_be_printed_are_one_line(options: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "workbench", "losses", *options]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("workbench: disk full; make room there")
    assert done.stderr.count("\n") == 1


@needs_full
def test_bad_input_keeps_its_exit_status_without_stderr() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "workbench", "train", "--recipe", "nothing"]
        assert subprocess.run(command, stderr=full, check=False).returncode == 2
