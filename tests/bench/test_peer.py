import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from workbench.bench import peer
from workbench.bench.peer import (
    CACHED,
    OURS,
    SAME_WORK,
    STEP,
    THEIRS,
    Match,
    Program,
    arguments,
    check_program,
    match_config,
    peer_rows,
    running,
    write_match,
)
from workbench.embeddings import Embeddings
from workbench.engine.build import build_cohort, make_objective
from workbench.engine.loop import train
from workbench.events import StepDone
from workbench.losses.comparison import Comparison
from workbench.models.spec import load_model
from workbench.models.teacher import Teacher

SMALL = Match(batch_size=8, num_workers=0, num_turns=1, num_steps=2)


@pytest.fixture(scope="module")
def match_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A match of models of the sample sizes."""
    folder = tmp_path_factory.mktemp("match")
    write_match(SMALL, folder)
    return folder


@pytest.fixture
def folder(match_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The match, for a test that has caches of its own."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "own"))
    return match_folder


def test_the_losses_are_those_of_open_clips_program(folder: Path) -> None:
    """Value, and gradients at the student's embeddings and scale, against open_clip's own loss."""
    from open_clip.loss import DistillClipLoss

    def unit_BD() -> torch.Tensor:
        return F.normalize(torch.randn(8, 512, generator=generator), dim=1)

    generator = torch.Generator().manual_seed(0)
    teacher = Embeddings(unit_BD(), unit_BD(), torch.tensor(30.0))
    image_BD, text_BD, scale = (
        unit_BD().requires_grad_(),
        unit_BD().requires_grad_(),
        torch.tensor(14.0).requires_grad_(),
    )
    parts = DistillClipLoss()(image_BD, text_BD, scale, teacher.image_BD, teacher.text_BD, teacher.scale)
    theirs = torch.autograd.grad(sum(parts), (image_BD, text_BD, scale))
    student = Embeddings(image_BD, text_BD, scale)
    objective = make_objective(
        match_config(SMALL, folder, "off", "off"), Teacher(load_model(str(folder / peer.TEACHER)), 8)
    )
    ours = objective(Comparison(student, teacher, student, {})).total
    assert ours.item() == pytest.approx(sum(part.item() for part in parts), rel=1e-6)
    for one, other in zip(torch.autograd.grad(ours, (image_BD, text_BD, scale)), theirs, strict=True):
        assert float((one - other).norm()) <= 1e-5 * float(other.norm())


def test_the_programs_settings_are_the_runs() -> None:
    """Read by the program's own parser."""
    from open_clip_train.params import parse_args

    told = parse_args(arguments(SMALL))
    config = match_config(SMALL, Path("somewhere"), "off", "off")
    optimizer = config.optimizer
    assert (told.lr, told.wd, told.eps) == (optimizer.learning_rate, optimizer.weight_decay, optimizer.eps)
    assert (told.beta1, told.beta2) == optimizer.betas
    assert (told.batch_size, told.workers) == (config.train.batch_size, config.data.num_workers)
    assert (told.precision, config.train.precision) == ("fp32", "fp32")
    assert told.grad_clip_norm is None
    assert optimizer.clip_norm == 0
    assert told.distill_model is not None
    assert told.distill_pretrained is not None


def test_the_programs_list_lasts_longer_than_the_match(folder: Path) -> None:
    lines = (folder / peer.EPOCH).read_text().splitlines()
    assert (len(lines) - 1) // SMALL.batch_size > SMALL.num_steps_in_all
    assert len(set(lines)) == len((folder / peer.PAIRS).read_text().splitlines())


def test_rows_are_held_against_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "play", lambda _match: {THEIRS: 100.0, SAME_WORK: 130.0, CACHED: 350.0})
    theirs, same, cached = peer_rows(SMALL)
    assert (theirs.ratio, same.ratio, cached.ratio) == (1.0, 1.3, 3.5)
    assert cached.time_s == pytest.approx(8 / 350)


def test_ours_take_their_turns_and_leave_the_caches_of_others_alone(folder: Path, tmp_path: Path) -> None:
    with peer._cache_in(tmp_path / "cache"):
        players = {name: peer._ours(match_config(SMALL, folder, *how)) for name, how in OURS.items()}
        for _ in range(2):
            assert {name: len(steps(1)) for name, steps in players.items()} == dict.fromkeys(OURS, 1)
    assert os.environ["WORKBENCH_CACHE"] == str(tmp_path / "own")
    assert not (tmp_path / "own").exists()
    assert {path.name for path in (tmp_path / "cache").iterdir()} >= {"prepared"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_program_trains_the_same_student(folder: Path) -> None:
    """From the same weights, on batches of the same images in another order."""
    match = replace(SMALL, num_steps=4)
    with running(arguments(match), folder, 1) as program:
        assert all(speed > 0 for speed in program.steps(6))
        theirs = program.losses
    config = match_config(match, folder, "off", "off")
    ours = [event.loss for event in train(build_cohort({"ours": config})) if isinstance(event, StepDone)]
    assert ours[0] == pytest.approx(theirs[0], rel=0.1)
    assert sum(ours[:6]) == pytest.approx(sum(theirs[:6]), rel=0.1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_match_is_played() -> None:
    rows = peer_rows(SMALL)
    assert [row.case for row in rows] == [THEIRS, *OURS]
    for row in rows:
        assert row.pairs_per_s > 0


# Turns are asked of a stand-in that logs as open_clip's program does.
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
    monkeypatch.setattr(peer, "MODULE", "stand_in")
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
    monkeypatch.setattr(peer, "find_spec", lambda package: None if package == "webdataset" else object())
    with pytest.raises(ValueError, match=r"needs webdataset, .*pip install 'clip-distillation-workbench\[peer\]'"):
        check_program()


def test_a_loss_that_is_not_a_number_is_still_a_step() -> None:
    found = STEP.search(
        "Train Epoch: 0 [1/2 (3%)] Data (t): 0.1 Batch (t): 0.1, 1.20000e+03/s, 1/s/gpu LR: 0 Loss: nan (1)"
    )
    assert found is not None
    assert found.groups() == ("1.20000e+03", "nan")
