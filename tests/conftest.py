"""A student, a teacher and a run small enough for seconds on one core, on the shipped sample pictures."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from workbench.config.run import RunConfig
from workbench.config.toml import merge

# One thread: small models gain nothing from two, and bit-identical runs are promised for equal thread counts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and a console that is made then keeps it whatever a test says

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
