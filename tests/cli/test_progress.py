"""Progress of runs as lines and as bars, and signals."""

import io
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from workbench import progress as shown
from workbench.cli import progress
from workbench.cli.output import PlainConsole
from workbench.cli.progress import interruptible, show
from workbench.events import EvalDone, EvalStarted, Event, RunFinished, RunStarted, StepDone, Warned
from workbench.progress import phase
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import run_status

STYLE = re.compile(r"\x1b\[[\d;?]*[a-zA-Z]")


def started(run: str) -> RunStarted:
    return RunStarted(run=run, step=0, num_steps=1000, batch_size=64, num_pairs=9, num_parameters=9,
                      num_embedding_parameters=1, host="here", pid=1)  # fmt: skip


def step(run: str, number: int, **changes: Any) -> StepDone:
    fields: dict[str, Any] = {"loss": 1.784, "terms": {}, "weighted": {}, "scales": {}, "learning_rate": 1e-3,
                              "grad_norm": 1.0, "step_time_s": 20.0, "pairs_per_s": 5.2, "elapsed_s": 1.0,
                              "peak_mb": 1.0}  # fmt: skip
    return StepDone(run=run, step=number, **fields | changes)


def measured(run: str) -> EvalDone:
    recall = {"image_to_text_r1": 0.017, "text_to_image_r1": 0.033}
    return EvalDone(run=run, step=1000, split="validation", num_pairs=9, metrics=recall, elapsed_s=1.0)


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """``printed(events, is_terminal=...)``: the lines that these events leave."""

    def show(events: list[Event], *, is_terminal: bool = False) -> list[str]:
        file = io.StringIO()
        monkeypatch.setattr(progress, "errors", PlainConsole(file=file, width=80, force_terminal=is_terminal))
        passed: Iterator[Event] = progress.show(events, 1000)
        assert list(passed) == events
        return file.getvalue().splitlines()

    return show


def test_rates_below_ten_have_digits_and_long_times_are_minutes(printed) -> None:
    (line,) = printed([started("one"), step("one", 910)])
    assert line == "one  step 910/1000  loss 1.784  5.2 pairs/s  30.0 min left"
    (line,) = printed([step("one", 910, pairs_per_s=0.43, step_time_s=1.0)])
    assert "0.43 pairs/s  1.5 min left" in line
    (line,) = printed([step("one", 991, pairs_per_s=1234.0, step_time_s=1.0)])
    assert "1,234 pairs/s  9 s left" in line


def test_the_rate_is_per_run_until_the_other_runs_end(printed) -> None:
    runs = [f"r{number}" for number in range(8)]
    events: list[Event] = [started(run) for run in runs] + [step("r0", 910)]
    assert "5.2 pairs/s in each of 8 runs" in printed(events)[0]
    ended = [RunFinished(run=run, step=910, state="finished", elapsed_s=1.0) for run in runs[1:]]
    assert "pairs/s  " in printed([*events[:-1], *ended, step("r0", 910)])[-1]


def test_recall_names_its_direction(printed) -> None:
    assert printed([measured("one")]) == ["one  validation R@1 image→text 1.7 text→image 3.3 %"]


def test_bars_fit_eighty_columns_and_names_stay_distinct(printed) -> None:
    runs = [f"fd_temp-fd.weight=1000 scale=20-s{seed}" for seed in range(3)]
    events: list[Event] = [started(run) for run in runs]
    events += [event for run in runs for event in (step(run, 910, pairs_per_s=1234.0), measured(run))]
    lines = [STYLE.sub("", line) for line in printed(events, is_terminal=True) if "pairs/s" in line][-3:]
    assert len({line.split()[0] for line in lines}) == 3
    assert max(map(cell_len, lines)) <= 80
    for line in lines:
        assert "I→T 1.7 T→I 3.3 %" in line
        assert "1,234 pairs/s" in line


def test_names_and_messages_are_text_without_markup_or_escapes(printed) -> None:
    hostile = "[red]x\x1b[2J"
    for is_terminal in (False, True):
        lines = printed([started(hostile), step(hostile, 910)], is_terminal=is_terminal)
        assert any("[red]x" in line for line in lines)
        assert not any("\x1b[2J" in line for line in lines)


STARTED = RunStarted(
    run="one",
    step=0,
    num_steps=3,
    batch_size=2,
    num_pairs=2,
    num_parameters=1,
    num_embedding_parameters=1,
    host="here",
    pid=1,
)


def measuring(split: str, num_pairs: int) -> EvalStarted:
    return EvalStarted(run="one", step=3, split=split, num_pairs=num_pairs)


def test_a_long_test_evaluation_has_a_hint_how_to_skip_it(capsys: pytest.CaptureFixture[str]) -> None:
    list(show([STARTED, measuring("validation", 5000), measuring("test", 5000), measuring("test", 40)], 3))
    (line,) = capsys.readouterr().err.splitlines()
    assert "5,000 test pairs" in line
    assert "--no-test" in line
    assert "--set data.test=" in line


def test_a_warning_of_all_members_of_a_cohort_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    both = [Warned(run=run, step=0, message="at chance") for run in ("one", "two")]
    assert list(show([*both, Warned(run="one", step=3, message="at chance")], 3))[1] == both[1]
    assert capsys.readouterr().err.splitlines() == ["one  at chance"] * 2


def test_in_a_terminal_an_evaluation_is_a_row_of_the_runs_bars(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "BAR_AFTER_S", 0.0)
    console = progress.errors.__class__(stderr=True, force_terminal=True, width=100)
    monkeypatch.setattr(progress, "errors", console)

    def events():
        yield STARTED
        yield measuring("test", 5000)
        with phase("encoding test images", 5000) as one:
            one.advance(1200)
        yield EvalDone(run="one", step=3, split="test", num_pairs=5000, metrics={}, elapsed_s=1)
        yield RunFinished(run="one", step=3, state="finished", elapsed_s=1)

    list(show(events(), 3))
    said = capsys.readouterr().err
    assert "--no-test" in said
    with phase("encoding test images", 5000) as one:  # and no longer a row once the bars are gone
        one.advance()
        assert shown._reporter.host is None


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("error", [ValueError("zip() argument 2 is longer"), OSError(28, "No space left on device")])
def test_a_display_that_fails_is_reported_once_and_the_events_go_on(monkeypatch, capsys, is_terminal, error) -> None:
    def fail(*_: object) -> None:
        raise error

    view = progress._Bars if is_terminal else progress._Lines
    monkeypatch.setattr(view, "show", fail)
    monkeypatch.setattr(type(progress.errors), "is_terminal", is_terminal)
    events = [Warned(run="fd", step=step, message="x") for step in range(3)]
    assert list(show(events, 3)) == events
    said = [line for line in capsys.readouterr().err.splitlines() if "no longer shown" in line]
    assert len(said) == 1
    assert "workbench runs show fd" in said[0]


@pytest.fixture(autouse=True)
def _streams_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """After SIGHUP they stay as they are: the process is about to end."""
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)


@pytest.mark.parametrize("second", [signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize("first", [signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1])
def test_a_second_hangup_or_warning_of_a_cluster_changes_nothing(first: signal.Signals, second: signal.Signals) -> None:
    with interruptible() as interrupt:
        os.kill(os.getpid(), first)
        os.kill(os.getpid(), second)
        assert interrupt.exit_code == 128 + first
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_a_rank_that_gets_sigterm_itself_and_from_its_launcher_saves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with interruptible() as interrupt:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.exit_code == 143


def test_under_nohup_a_hangup_is_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_what_nobody_reads_is_dropped(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    reader, writer = os.pipe() if kind == "pipe" else pty.openpty()
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with interruptible() as interrupt:
            os.close(reader)
            os.kill(os.getpid(), signal.SIGTERM)  # whose line nobody reads
            print("another", file=sys.stderr, flush=True)
            assert interrupt()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_terminal_that_closes_ends_the_run_resumable(tiny_recipe: str, tmp_path: Path, workers: int) -> None:
    """As when an ssh connection breaks: the kernel hangs up, output fails, and SIGHUP reaches the process group."""
    master, terminal = pty.openpty()
    words = [
        "train",
        "--recipe",
        tiny_recipe,
        "--name",
        "one",
        "--steps",
        "20000",
        "--set",
        f"data.num_workers={workers}",
    ]
    script = (
        "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from workbench.cli.app import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    os.set_blocking(master, False)
    run = RunDirectory(tmp_path / "runs" / "one")
    until = time.monotonic() + 120
    while not run.events_file.exists() or len(run.events_file.read_bytes().splitlines()) < 3:
        assert time.monotonic() < until
        try:
            os.read(master, 65536)
        except BlockingIOError:
            time.sleep(0.05)
    os.close(master)
    assert process.wait(timeout=60) == 129
    status = run_status(run)
    assert status.state == "interrupted"
    assert (run.checkpoints / f"step-{status.step:08d}").is_dir()
