"""The same distillation with open_clip's training program and with the workbench, in turns.

Both train one student from the same initial weights with the same teacher, images, captions, batch size, losses,
optimizer settings and threads, in float32. open_clip's distillation loss is soft cross-entropy between both models'
logits, each at its learned scale, averaged over both directions: affinity mimicking at those scales.
"""

import os
import re
import signal
import statistics
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import NoReturn

import torch

from workbench.adapters.sink import PROJECT
from workbench.bench.contest import Bench, Row, bench_config
from workbench.bench.data import scenes
from workbench.config.run import RunConfig
from workbench.engine.build import build_cohort
from workbench.engine.loop import train
from workbench.events import StepDone
from workbench.models.folder import save_folder
from workbench.models.spec import load_model

MEANING = "Times faster than open_clip's training program, in float32 with the same number of threads."
TEACHER_SIZE, STUDENT_SIZE = "mini-w128", "mini-w64"
NUM_BATCHES = 8  # batches of different pairs
NUM_IGNORED = 3  # first steps of every turn: they include the other's turn, or use batches prefetched during it
PAIRS, EPOCH, STUDENT, TEACHER = "pairs.tsv", "epoch.tsv", "student", "teacher"
THEIRS, SAME_WORK, PREPARED, CACHED = (
    "open_clip",
    "workbench, same work",
    "workbench, prepared pictures",
    "workbench, prepared pictures, cached teacher",
)
OURS = {SAME_WORK: ("off", "off"), PREPARED: ("pixels", "off"), CACHED: ("pixels", "on")}


@dataclass(frozen=True)
class Match:
    """Settings of both programs, and the number of steps.

    Args:
        num_workers: loader processes; with 0, ours loads in a thread and open_clip within the step.
        num_turns: number of turns of each.
        num_steps: counted steps per turn, after ``NUM_IGNORED`` uncounted ones.
    """

    batch_size: int = 128
    num_workers: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    num_turns: int = 5
    num_steps: int = 8

    @property
    def num_steps_in_all(self) -> int:
        return self.num_turns * (NUM_IGNORED + self.num_steps)


def peer_bench(match: Match) -> Bench:
    """The benchmark of this match."""
    return Bench({f"peer, {MODULE}, B = {match.batch_size}": partial(peer_rows, match)}, MEANING, "wall")


def peer_rows(match: Match) -> list[Row]:
    """Pairs per second of both, and our speed-up.

    Raises:
        ValueError: open_clip's program is not installed, or ends early.
    """
    speeds = play(match)
    size = match.batch_size
    return [
        Row(name, size, size / pairs_per_s, ratio=pairs_per_s / speeds[THEIRS], pairs_per_s=pairs_per_s)
        for name, pairs_per_s in speeds.items()
    ]


def play(match: Match) -> dict[str, float]:
    """Median pairs per second of each contender."""
    with contenders(match) as players:
        speeds: dict[str, list[float]] = {name: [] for name in players}
        for _ in range(match.num_turns):
            for name, steps in players.items():
                speeds[name] += steps(NUM_IGNORED + match.num_steps)[NUM_IGNORED:]
    return {name: statistics.median(found) for name, found in speeds.items()}


@contextmanager
def contenders(match: Match) -> Iterator[dict[str, Callable[[int], list[float]]]]:
    """For each contender, a call that takes some steps and returns their pairs per second."""
    check_program()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="workbench-bench-")))
        stack.enter_context(_cache_in(folder / "cache"))
        write_match(match, folder)
        players = {name: _ours(match_config(match, folder, *how)) for name, how in OURS.items()}
        program = stack.enter_context(running(arguments(match), folder, torch.get_num_threads()))
        yield {THEIRS: program.steps} | players


def write_match(match: Match, folder: Path) -> None:
    """Write models with random weights, images as JPEG files, and their lists.

    open_clip's list repeats the images for all steps, because it restarts its workers at the end of the list.
    """
    for seed, (name, size) in enumerate({TEACHER: TEACHER_SIZE, STUDENT: STUDENT_SIZE}.items()):
        save_folder(load_model(size, seed=seed, tokenizer="bpe"), folder / name)
    lines = []
    for number, (image, caption) in enumerate(scenes(NUM_BATCHES * match.batch_size)):
        image.save(folder / f"{number}.jpg", quality=90)
        lines.append(f"{number}.jpg\t{caption}\n")
    num_rounds = -(-(match.num_steps_in_all + 1) // NUM_BATCHES)
    for name, rounds in ((PAIRS, 1), (EPOCH, num_rounds)):
        (folder / name).write_text("filepath\ttitle\n" + "".join(lines * rounds), encoding="utf-8")


def arguments(match: Match) -> list[str]:
    """open_clip's command line; its working directory is the match's folder."""
    optimizer = RunConfig().optimizer
    options = {
        "model": f"local-dir:{STUDENT}",
        "distill-model": f"local-dir:{TEACHER}",
        "distill-pretrained": TEACHER,  # open_clip does not distill without it, although the folder has the weights
        "train-data": EPOCH,
        "dataset-type": "csv",
        "batch-size": match.batch_size,
        "workers": match.num_workers,
        "epochs": 1,
        "precision": "fp32",
        "device": match.device.type,
        "lr": optimizer.learning_rate,
        "wd": optimizer.weight_decay,
        "beta1": optimizer.betas[0],
        "beta2": optimizer.betas[1],
        "eps": optimizer.eps,
        "warmup": round(optimizer.warmup_fraction * match.num_steps_in_all),
    }
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


def match_config(match: Match, folder: Path, prepare: str, cache: str) -> RunConfig:
    """The same run as a workbench config; one view per image with a cache, else new crops every epoch."""
    affinity = "{convention = 'released', weight_at = 'here', scale = 'student', teacher_scale = 'teacher'}"
    data = {"train": folder / PAIRS, "num_pairs": 0, "views": 1 if cache == "on" else 0, "prepare": prepare}
    return bench_config(
        "baseline",
        match.batch_size,
        match.num_steps_in_all,
        match.device,
        loss={"affinity": affinity},
        data=data | {"num_workers": match.num_workers},
        student={"model": folder / STUDENT},
        teacher={"model": folder / TEACHER, "cache": cache},
        train={"precision": "fp32"},
        log={"every_steps": 1, "checkpoint_every_steps": 0},
        evaluate={"every_steps": 0},
        optimizer={"learning_rate": RunConfig().optimizer.learning_rate},
    )


def _ours(config: RunConfig) -> Callable[[int], list[float]]:
    """The workbench's training loop, measured by its StepDone events."""
    events = train(build_cohort({"ours": config}))
    speeds = (event.pairs_per_s for event in events if isinstance(event, StepDone))
    return lambda num_steps: list(islice(speeds, num_steps))


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    """Put the image and teacher caches in this temporary folder."""
    before = os.environ.get("WORKBENCH_CACHE")
    os.environ["WORKBENCH_CACHE"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("WORKBENCH_CACHE")
        if before is not None:
            os.environ["WORKBENCH_CACHE"] = before


MODULE = "open_clip_train.main"
NEEDED = ("open_clip_train", "pandas", "webdataset", "braceexpand")  # its imports in addition to open_clip
STEP = re.compile(r"Train Epoch: .* ([0-9.e+]+)/s, .*\bLoss: ([0-9.e+-]+|nan)")  # pairs per second and loss of a step


def check_program() -> None:
    """Check that the program can run.

    Raises:
        ValueError: a required package is missing, with the remedy.
    """
    missing = [package for package in NEEDED if find_spec(package) is None]
    if missing:
        raise ValueError(
            f"open_clip's training program needs {', '.join(missing)}, which is not installed: "
            f"pip install '{PROJECT}[peer]'"
        )


class Program:
    """The running program; its steps are read from its log.

    Args:
        arguments: its command line; --log-every-n-steps is 1.
        folder: its working directory and logs.
        num_threads: OMP_NUM_THREADS.
    """

    def __init__(self, arguments: list[str], folder: Path, num_threads: int) -> None:
        quiet = {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE, "--log-every-n-steps", "1", "--logs", str(folder / "logs"), *arguments],
            cwd=folder,
            env=os.environ | quiet | {"OMP_NUM_THREADS": str(num_threads)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,  # signals must reach its workers, too
        )
        self._last = deque[str](maxlen=3)
        self.losses: list[float] = []  # of all its steps so far

    def steps(self, num_steps: int) -> list[float]:
        """Resume it for so many steps; pairs per second of each. The first includes the time that it was paused.

        Raises:
            ValueError: it has ended, with its last output.
        """
        self._signal(signal.SIGCONT)
        found = list(islice(self._speeds(), num_steps))
        self._signal(signal.SIGSTOP)
        return found

    def close(self) -> None:
        """Kill it and its workers."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _speeds(self) -> Iterator[float]:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if step := STEP.search(line):
                self.losses.append(float(step[2]))
                yield float(step[1])
            elif line.strip():
                self._last.append(line.strip())
        output = " / ".join(self._last) or "nothing"
        raise ValueError(f"open_clip's training program ended early; its last output: {output}")

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


@contextmanager
def running(arguments: list[str], folder: Path, num_threads: int) -> Iterator[Program]:
    """The program, killed on exit. SIGTERM is handled, since it would end this process without its child."""
    before = signal.signal(signal.SIGTERM, _leave)
    program = Program(arguments, folder, num_threads)
    try:
        yield program
    finally:
        program.close()
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
