"""Every command that computes, on a GPU that is not there: none of them lets tensors of two devices meet."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from PIL import Image

from workbench.bench import gpu as bench
from workbench.bench.training import Size

COMMANDS = {
    "doctor": "doctor --recipe tiny.toml",
    "calibrate": "calibrate --recipe tiny.toml",
    "inherit, by hand": "inherit --teacher TEACHER --set image.width=8 --out half",
    "inherit, learnt": "inherit --teacher TEACHER --auto 0.3 --data samples:scenes --steps 4 --out learnt",
    "teacher cache": "teacher cache --recipe tiny.toml --set data.views=1",
    "evaluate": "evaluate TEACHER --data samples:scenes/validation --pairs 100",
    "linear probe": "evaluate TEACHER --data folder:things --linear-probe folder:things --shots 2 --seeds 1",
    "bench step": "bench step --recipe tiny.toml",
    "bench losses": "bench losses --batch 8 --case mixture",
    "sweep": "sweep --study grid.toml --quick",
}
GRID = """
question = "Which weight?"
recipe = "tiny.toml"
seeds = 1
baseline = "0"
[grid]
loss.fd.weight = [0, 1]
"""


SLOW = [pytest.param("bench cohort --members 2 --batch 8", marks=pytest.mark.slow, id="bench cohort")]


@pytest.mark.parametrize("command", [*(pytest.param(*one, id=name) for name, *one in COMMANDS.items()), *SLOW])
def test_a_command_computes_on_the_gpu(
    gpu,
    command_line: Callable[..., Any],
    tiny_table: dict[str, Any],
    tiny_models: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    del gpu
    # Costs are counted on the meta device, which the simulated GPU takes for its own.
    monkeypatch.setattr("workbench.inheritance.report.multiply_accumulates", lambda *_: 1)
    for turns in ("contest.ENOUGH_REPEATS", "step.LEAST_TURNS"):  # what is timed is not asked here
        monkeypatch.setattr(f"workbench.bench.{turns}", 2)
    monkeypatch.chdir(tmp_path)
    train = {"num_steps": 4, "batch_size": 20, "device": "auto", "precision": "fp32"}
    recipe = {key: value for key, value in tiny_table.items() if key != "recipe"} | {"question": "?", "train": train}
    Path("tiny.toml").write_text(tomli_w.dumps(recipe))
    Path("grid.toml").write_text(GRID)
    for number in range(6):
        path = Path("things", ("red", "blue")[number % 2], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (40 * number, 0, 200 * (number % 2))).save(path)
    done = command_line(*command.replace("TEACHER", tiny_models["teacher"]).split())
    assert done.code == command.startswith("doctor"), done.err  # which finds that a random teacher has nothing to teach


def test_what_bench_gpu_measures_runs_there(gpu, tiny_models: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the capture of a graph and the compilers."""
    monkeypatch.setattr("workbench.bench.contest.ENOUGH_REPEATS", 1)
    size = Size("tiny", tiny_models["teacher"], tiny_models["student"], 8)
    figures = [
        bench.rate(size, 8, gpu, precision="fp32"),
        bench.rate(size, 8, gpu, is_live=True),
        bench.blocks_ratio(size, 8, gpu),
        bench.losses_s(16, gpu, tf32=True),
    ]
    assert all(figure > 0 for figure in figures)
    assert not torch.backends.cuda.matmul.allow_tf32
    (row,) = bench.Estimate("a graph", "s", 1, 1, lambda device: bench.rate(size, 8, device, how="graph")).rows(gpu)
    assert (row.measured, bool(row.failed)) == (None, True)  # no stand-in captures
