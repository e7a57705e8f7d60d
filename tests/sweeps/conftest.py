"""Studies of runs that take a second, and a loss that fails on demand."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from workbench.config.cells import Changes
from workbench.runs.studies import load_study
from workbench.sweeps.leases import Leases
from workbench.sweeps.request import Request
from workbench.sweeps.sweep import Sweep

LOSS = '''
import torch
from workbench.losses import Loss


class DemandingLoss(Loss):
    """Adds 0, or NaN from the second call on, or asks for more memory than there is."""

    def __init__(self, convention: str = "paper", mode: str = "fine") -> None:
        super().__init__(convention)
        self.mode = mode
        self.calls = 0

    def __call__(self, comparison):
        self.calls += 1
        zero = 0 * comparison.embeddings("student").image_BD.sum()
        if self.mode == "memory":
            zero = zero + torch.zeros(2**50).sum()
        return zero * float("nan") if self.mode == "nan" and self.calls > 1 else zero
'''
GRID = """
question = "Which weight?"
recipe = "tiny.toml"
seeds = 2
baseline = "0"
[grid]
loss.fd.weight = [0, 1, 5]
[[objectives]]
metric = "image_to_text_r1"
"""


@pytest.fixture
def folder(tiny_table: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a tiny recipe, a demanding loss and a grid."""
    monkeypatch.chdir(tmp_path)
    table = {key: value for key, value in tiny_table.items() if key != "recipe"} | {"question": "Tiny?"}
    table["train"] = {"num_steps": 6, "batch_size": 20, "device": "cpu"}
    table["log"] = {"every_steps": 3, "checkpoint_every_steps": 2, "diagnose_every_steps": 0}
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(table))
    (tmp_path / "demanding.py").write_text(LOSS)
    (tmp_path / "grid.toml").write_text(GRID)
    return tmp_path


@pytest.fixture
def planned(folder: Path) -> Callable[..., Sweep]:
    """``planned("grid.toml", steps=..., seeds=...)``: the sweep of a study of that folder."""
    of_the_study = ("seeds", "most_seeds", "margin")

    def plan(file: str, *, steps: int | None = None, **options: object) -> Sweep:
        given = {name: options.pop(name) for name in of_the_study if name in options}
        asked = load_study(str(folder / file)).model_copy(update=given)
        return Sweep(Request(asked, Changes(steps=steps), folder / "runs", **options))

    return plan


@pytest.fixture
def finished(planned: Callable[..., Sweep], folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """The grid, trained: once for all tests, and copied to each."""
    trained = tmp_path_factory.getbasetemp() / "finished-grid"
    if not trained.exists():
        planned("grid.toml").work()
        shutil.copytree(folder / "runs", trained)
    else:
        shutil.copytree(trained, folder / "runs")
    return planned("grid.toml")


@pytest.fixture
def takers() -> Callable[[int, Callable[[], Leases]], list[int]]:
    """``takers(6, make)``: how many of six, asking for three leases at the same moment, get each."""

    def contest(number: int, make: Callable[[], Leases]) -> list[int]:
        workers = [make() for _ in range(number)]
        got: dict[str, list[Leases]] = {key: [] for key in "abc"}
        start = threading.Barrier(number)

        def ask(worker: Leases) -> None:
            start.wait()
            for key, owners in got.items():
                if worker.take(key):
                    owners.append(worker)

        threads = [threading.Thread(target=ask, args=(worker,)) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [len(owners) for owners in got.values()]

    return contest
