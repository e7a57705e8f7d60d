"""Commands in processes of their own: what they said last, and nothing of what stood there before."""

import time
from pathlib import Path

import pytest

from workbench.runs.apart import Apart, last_line, start_apart, why_failed


def ended(apart: Apart) -> Apart:
    until = time.monotonic() + 60
    while apart.is_alive:
        assert time.monotonic() < until
        time.sleep(0.02)
    return apart


def test_a_command_says_why_it_failed_behind_what_others_said(tmp_path: Path) -> None:
    output = tmp_path / "output.log"
    output.write_text("workbench: what was wrong once\n")
    apart = start_apart(["runs", "show", "nothing", "--runs", str(tmp_path / "runs")], output)
    assert apart.started is not None
    assert ended(apart).last_line.startswith("workbench: no run 'nothing'")
    assert output.read_text().startswith("workbench: what was wrong once\n")


def test_of_a_pid_that_belongs_to_another_process_now_it_has_ended(tmp_path: Path) -> None:
    apart = start_apart(["--version"], tmp_path / "output.log")
    assert not Apart(apart.pid, "another start", apart.output, 0).is_alive
    assert last_line(ended(apart).output.read_text()) == apart.last_line
    apart.output.unlink()
    assert apart.last_line == ""


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("step 1\nworkbench: no such data\n\n", "no such data"),
        ("step 1\rworkbench: no such data", "no such data"),
        ("Killed", "Killed"),
        (" \n", "it said nothing"),
    ],
)
def test_why_a_command_failed_is_its_last_line(said: str, why: str) -> None:
    assert why_failed(last_line(said)) == why
