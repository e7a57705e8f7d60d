"""A student, a teacher and a run small enough for seconds on one core, on the shipped sample images."""

import json
import multiprocessing
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.config.run import RunConfig
from workbench.config.toml import merge
from workbench.runs import liveness

# One thread: small models gain nothing from two, and bit-identical runs are promised for equal thread counts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
liveness.POLL_S = 0.001  # shorter than any step, so that a command is carried out after the step in which it is sent
# No test cuts the power: a run has 70 of these calls, and a disk takes 10 ms for each. Tests that count them still do.
os.fsync = lambda _: None
CONNECT = sqlite3.connect


def connect_without_fsync(*arguments: Any, **options: Any) -> sqlite3.Connection:
    """As ``sqlite3.connect``, for a database that commits without waiting for the disk: a study has hundreds."""
    connection = CONNECT(*arguments, **options)
    with suppress(sqlite3.Error):  # such as a damaged file, which the test shall find itself
        connection.execute("PRAGMA synchronous = OFF")
    return connection


sqlite3.connect = sqlite3.dbapi2.connect = connect_without_fsync
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and a console that is made then keeps it whatever a test says

FORK = multiprocessing.get_context("fork")
FAILABLE = ("write", "fsync", "replace", "rename", "open", "mkdir")
ROOT = Path(__file__).parents[1]

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"context_length": 20, "width": 16, "heads": 2, "layers": 1},
    "tokenizer": "words:scenes",
}


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Model SPECs: "student" (width 16), and "teacher", a folder of another width with random weights."""
    from workbench.models.folder import save_folder
    from workbench.models.spec import load_model

    folder = tmp_path_factory.mktemp("models")
    (folder / "tiny.json").write_text(json.dumps(TINY))
    (folder / "wide.json").write_text(json.dumps(TINY | {"embed_dim": 24}))
    save_folder(load_model(f"config:{folder / 'wide.json'}", seed=99), folder / "teacher")
    return {"student": f"config:{folder / 'tiny.json'}", "teacher": str(folder / "teacher")}


@pytest.fixture
def tiny_table(tiny_models: dict[str, str]) -> dict[str, object]:
    """The settings of a run of 12 steps on 60 pairs, as TOML would hold them."""
    return {
        "recipe": "tiny",
        "data": {"train": "samples:scenes", "num_pairs": 60, "num_validation_pairs": 40, "test": ""},
        "student": {"model": tiny_models["student"]},
        "teacher": {"model": tiny_models["teacher"], "chunk_size": 16},
        "train": {"num_steps": 12, "batch_size": 20, "device": "cpu"},
        "log": {"every_steps": 3, "checkpoint_every_steps": 4},
        "loss": {"clip": {"weight": 1.0}, "crd": {"weight": 1.0}, "fd": {"weight": 5.0}, "icl": {"weight": 1.0}},
    }


@pytest.fixture
def tiny(tiny_table: dict[str, object]) -> Callable[..., RunConfig]:
    """``tiny(**changes)``: the config of that run, with tables of changes laid over it."""
    return lambda **changes: RunConfig.parse(merge(tiny_table, changes))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Indices and drawn samples go to a folder of the tests' own."""
    os.environ["WORKBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``command_line("runs", "list")``: what ``workbench runs list`` prints in this process, and its exit status."""
    import workbench.cli.output  # noqa: F401  # before a test sets COLUMNS: a console keeps the width of its import
    from workbench.cli.app import main

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["workbench", *arguments])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def workbench(
    command_line: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Result]:
    """``workbench("runs", "list")`` in an empty working directory; the result's ``code``, ``out`` and ``err``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return command_line


@contextmanager
def _forked(work: Callable[..., None], *arguments: Any) -> Iterator[BaseProcess]:
    process = FORK.Process(target=work, args=arguments)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


@pytest.fixture(scope="session")
def forked() -> Callable[..., AbstractContextManager[BaseProcess]]:
    """``with forked(work, *arguments) as process``: killed with SIGKILL on the way out if it still runs."""
    return _forked


@pytest.fixture(scope="session")
def killed() -> Callable[[Callable[[Any], None], int], Iterator[int]]:
    """``killed(work, times)``: kills ``work(counter)`` again and again, yielding how far each counter came.

    The kills come 0 to 50 ms (seeded) after the first count, so that they fall amid real work.
    """

    def kill_again_and_again(work: Callable[[Any], None], times: int) -> Iterator[int]:
        delays = random.Random(0)
        for _ in range(times):
            counter = FORK.Value("q", 0, lock=False)
            with _forked(work, counter) as process:
                while counter.value == 0 and process.is_alive():
                    process.join(0.001)
                process.join(delays.uniform(0, 0.05))
            yield int(counter.value)

    return kill_again_and_again


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractContextManager[list[str]]]:
    """``with failing(nth, code) as called``: the n-th call (from 1) of any of FAILABLE raises that OSError."""

    @contextmanager
    def fail(nth: int, code: int) -> Iterator[list[str]]:
        called: list[str] = []

        def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*arguments: Any, **options: Any) -> Any:
                if name == "open" and arguments[1] & os.O_NONBLOCK:  # how files are read: see workbench/documents.py
                    return real(*arguments, **options)
                called.append(name)
                if len(called) == nth:
                    raise OSError(code, os.strerror(code))
                return real(*arguments, **options)

            return wrapped

        with monkeypatch.context() as patched:
            for name in FAILABLE:
                patched.setattr(os, name, wrap(name, getattr(os, name)))
            yield called

    return fail


@pytest.fixture
def on_small_disk(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``on_small_disk("2m", command, before="sh commands")`` runs a command in an empty tmpfs of that size.

    The folder is ``tmp_path / "disk"``, seen in a mount namespace of the command's own; stdout ends with a line
    ``left: NAMES`` of all that lies there afterwards, but for ``filler``.
    """
    disk = tmp_path / "disk"
    disk.mkdir()

    def run(size: str, command: Sequence[str], before: str = "true") -> subprocess.CompletedProcess[str]:
        mount = f"mount -t tmpfs -o size={size} tmpfs {disk}"
        if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "sh", "-c", mount], check=False).returncode:
            pytest.skip("mounting a small disk needs root and mount namespaces")
        listing = "code=$?; echo left: $(find . -mindepth 1 -not -name filler -printf '%P ' ); exit $code"
        script = f'{mount} && cd {disk} && {{ {before}; }} && {{ "$@"; {listing}; }}'
        environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        words = ["unshare", "-m", "sh", "-c", script, "sh", *command]
        return subprocess.run(words, capture_output=True, text=True, check=False, env=environment)

    return run


@pytest.fixture
def healthy(tiny) -> RunConfig:
    """The tiny run with a teacher that knows its images, and two steps of warm-up."""
    return tiny(
        teacher={"model": "sample:scenes", "chunk_size": 20},
        optimizer={"warmup_fraction": 0.17},
        loss={"fd": {"weight": 50.0}},
    )


@pytest.fixture
def noise_pairs(tmp_path: Path) -> Callable[..., str]:
    """``noise_pairs(captions, num_broken)``: a CSV of small noise images with these captions."""

    def write(captions: Sequence[str], num_broken: int = 0) -> str:
        noise = np.random.default_rng(0).integers(0, 256, (len(captions), 12, 12, 3), dtype=np.uint8)
        lines = ["filepath,title"]
        for index, (pixels_HWC, caption) in enumerate(zip(noise, captions, strict=True)):
            file = tmp_path / f"{index}.png"
            Image.fromarray(pixels_HWC).save(file)
            if index < num_broken:
                file.write_bytes(b"not an image")
            lines.append(f"{file.name},{caption}")
        csv = tmp_path / "pairs.csv"
        csv.write_text("\n".join(lines) + "\n")
        return str(csv)

    return write
