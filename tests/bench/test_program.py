"""Turns are asked of a stand-in that logs as open_clip's program does; the program itself is in test_peer."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from workbench.bench import program
from workbench.bench.program import STEP, Program, check_program, running

STAND_IN = """
import sys, time
from pathlib import Path

for step in range(1000):
    Path("steps").write_text(str(step))
    print("2026-11-22,09:00:00 | INFO | Start epoch 0", file=sys.stderr)
    print(
        f"2026-11-22,09:00:00 | INFO | Train Epoch: 0 [ 64/8192 (1%)] Data (t): 0.100 Batch (t): 0.300, "
        f"{100 + step}.50/s, 213.333/s/gpu LR: 0.000100 Logit Scale: 14.286 Contrastive_loss: 4.1616 (4.1616) "
        f"Distill_loss: 4.0 (4.0) Loss: 8.{step} (8.3203)",
        file=sys.stderr, flush=True,
    )
    time.sleep(0.01)
    if step == {last}:
        sys.exit("out of patience")
"""


@contextmanager
def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, last: int = 999) -> Iterator[Program]:
    (folder / "stand_in.py").write_text(STAND_IN.replace("{last}", str(last)))
    monkeypatch.setattr(program, "MODULE", "stand_in")
    with running([], folder, 1) as found:
        yield found


def test_steps_are_reported_in_order_and_none_is_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with stand_in(monkeypatch, tmp_path) as found:
        assert found.steps(3) == [100.5, 101.5, 102.5]
        assert found.steps(2) == [103.5, 104.5]
        assert found.losses == [8.0, 8.1, 8.2, 8.3, 8.4]


def test_it_stands_still_between_turns_and_ends_with_the_match(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def steps_taken() -> int:
        return int((tmp_path / "steps").read_text() or -1)

    with stand_in(monkeypatch, tmp_path) as found:
        found.steps(1)
        time.sleep(0.1)
        stopped_at = steps_taken()
        time.sleep(0.3)
        assert steps_taken() == stopped_at
        found.steps(stopped_at + 5)
        assert steps_taken() > stopped_at
        pid = found._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_it_ends_with_a_terminated_bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pids = []

    def take_a_step() -> None:
        with stand_in(monkeypatch, tmp_path) as found:
            found.steps(1)
            pids.append(found._process.pid)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit, match="143"):
        take_a_step()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_early_end_is_an_error_with_its_last_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (
        stand_in(monkeypatch, tmp_path, last=1) as found,
        pytest.raises(ValueError, match=r"ended early; its last output: .*out of patience"),
    ):
        found.steps(5)


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "find_spec", lambda package: None if package == "webdataset" else object())
    with pytest.raises(ValueError, match=r"needs webdataset, .*pip install 'clip-distillation-workbench\[peer\]'"):
        check_program()


def test_a_loss_that_is_not_a_number_is_still_a_step() -> None:
    found = STEP.search(
        "Train Epoch: 0 [1/2 (3%)] Data (t): 0.1 Batch (t): 0.1, 1.20000e+03/s, 1/s/gpu LR: 0 Loss: nan (1)"
    )
    assert found is not None
    assert found.groups() == ("1.20000e+03", "nan")
