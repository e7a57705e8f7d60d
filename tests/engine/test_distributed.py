"""Several ranks train one run: bit-identical to one process with micro-batches of a rank's size."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import FORK
from workbench.config.toml import load_recipe
from workbench.engine import encoding
from workbench.engine.build import build_cohort
from workbench.engine.distributed import ALONE, Ranks, joined
from workbench.engine.launch import Order, launch, train_along
from workbench.runs.directory import RunDirectory

BATCH, STEPS = 26, 3
SMALL = {
    "data.num_pairs": 96,
    "data.views": 0,
    "data.validation": '""',
    "data.test": '""',
    "train.batch_size": BATCH,
    "train.num_steps": STEPS,
    "teacher.cache": "off",
    "data.prepare": "off",
}
EVERY_LOSS = {
    "loss.gd.weight": 1e8,
    "loss.gd.convention": "released",
    "loss.mfd.weight": 2000,
    "loss.mfd.convention": "released",
    "loss.afd.weight": 1,
    "loss.affinity.weight": 1,
    "loss.vrd.weight": 1,
    "loss.xrd.weight": 1,
    "loss.dark.weight": 1,
    "loss.sigmoid.weight": 1,
}
RECIPES = {
    "every loss": ("clip-kd", EVERY_LOSS),
    "teacher in memory": ("clip-kd", {"data.views": 2}),
    "micro-batches": ("clip-kd", {"train.micro_batch_size": 4}),
    "all candidates": ("icl", {"data.views": 2, "teacher.cache": "on", "loss.icl.candidates": "all"}),
}


def settings(name: str, size: int) -> tuple[str, list[str]]:
    recipe, changes = RECIPES[name]
    rows = -(-BATCH // size)
    given = SMALL | {"teacher.chunk_size": rows} | changes
    return recipe, [f"{key}={value}" for key, value in given.items()]


def train(name: str, ranks: Ranks, **changes: object) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The logged losses and the last weights of a short run."""
    recipe, overrides = settings(name, ranks.size if ranks.size > 1 else int(str(changes.pop("as_ranks", 1))))
    overrides += [f"{key}={value}" for key, value in changes.items()]
    cohort = build_cohort({"m": load_recipe(recipe, overrides)}, ranks=ranks)
    (member,) = cohort.members
    losses = []
    for step, batch in cohort.batches():
        cohort.train_step(batch, cohort.teacher_forward(batch, step), step)
        losses.append(member.step_done(step + 1, BATCH, 1.0, 1.0).loss)
    return losses, {key: tensor.detach().clone() for key, tensor in member.state.named_parameters()}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def shared(size: int) -> dict[str, str]:
    """The variables by which torchrun tells the ranks of one run of each other."""
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(size),
        "OMP_NUM_THREADS": "1",
    }


def spawn(size: int, arguments: list[str], **environment: str) -> list[subprocess.Popen[str]]:
    """Start ``python arguments`` as the ranks of one run, as torchrun does."""
    variables = os.environ | shared(size) | environment
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env=variables | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def on_ranks(work: Callable[[Ranks], Any], size: int, folder: Path) -> list[Any]:
    """What ``work`` returns on each of the ranks, which are forks of this process: torch is imported already."""
    variables = shared(size)

    def one(rank: int) -> None:
        os.environ |= variables | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        with joined() as ranks:
            torch.save(work(ranks), folder / f"{rank}.pt")

    processes = [FORK.Process(target=one, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        process.kill()
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]


@pytest.mark.parametrize(
    "name",
    ["every loss", *(pytest.param(one, marks=pytest.mark.slow) for one in ("teacher in memory", "all candidates"))],
)
def test_two_ranks_are_bit_identical_to_micro_batches_of_half_the_batch(name: str, tmp_path: Path) -> None:
    both = on_ranks(partial(train, name), 2, tmp_path)
    losses, weights = train(name, ALONE, as_ranks=2, **{"train.micro_batch_size": BATCH // 2})
    for rank_losses, rank_weights in both:
        assert rank_losses == losses
        assert all(torch.equal(rank_weights[key], weights[key]) for key in weights)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("every loss", 3), ("micro-batches", 2)])
def test_uneven_ranks_and_micro_batches_have_the_losses_of_one_process(name: str, size: int, tmp_path: Path) -> None:
    # Sums over pairs are in another order, so the last bits differ.
    ranks = on_ranks(partial(train, name), size, tmp_path)
    losses, _ = train(name, ALONE)
    for rank_losses, rank_weights in ranks:
        assert rank_losses == pytest.approx(losses, rel=1e-6)
        assert all(torch.equal(rank_weights[key], tensor) for key, tensor in ranks[0][1].items())


def test_rows_cover_a_batch_and_differ_by_at_most_one() -> None:
    for size in (1, 2, 3, 5):
        rows = [list(range(17))[Ranks(rank, size).rows(17)] for rank in range(size)]
        assert [row for part in rows for row in part] == list(range(17))
        assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_units_of_rows_stay_together() -> None:
    parts = [Ranks(rank, 3).rows(37, 8) for rank in range(3)]
    assert [(part.start, part.stop) for part in parts] == [(0, 16), (16, 32), (32, 37)]
    parts = [Ranks(rank, 3).rows(9, 8) for rank in range(3)]
    assert [(part.start, part.stop) for part in parts] == [(0, 8), (8, 9), (9, 9)]


@pytest.mark.parametrize("size", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_an_evaluation_by_slices_is_that_of_one_process(
    size: int, noise_pairs, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 38 images that can be read in chunks of 8, and of the test split more chunks than prompts have.
    monkeypatch.setattr(encoding, "CHUNK", 8)
    csv = noise_pairs([f"a red circle number {index % 30}" for index in range(40)], num_broken=2)
    data = {"validation": csv, "num_validation_pairs": 0, "test": "samples:scenes", "num_test_pairs": 50}
    configs = {str(seed): tiny(seed=seed, data=data) for seed in range(2)}

    def evaluated(ranks: Ranks) -> list[Any]:
        cohort = build_cohort(configs, ranks=ranks)
        for _ in range(2):  # the second time the teacher's embeddings are known
            list(cohort.evaluate(cohort.members, cohort.num_steps))
        assert all(member.state.student.training for member in cohort.members)
        return [
            (key, one.num_pairs, one.metrics, one.errors, one.hits, one.teacher, one.probe, one.agreement_by_pair)
            for key, one in cohort.measured.items()
        ]

    alone = evaluated(ALONE)
    assert [(key, num_pairs) for key, num_pairs, *_ in alone] == [
        ((run, split), number) for split, number in (("validation", 38), ("test", 50)) for run in "01"
    ]
    assert "zero_shot_top1" in alone[-1][2]
    first, *others = on_ranks(evaluated, size, tmp_path)
    assert _flat(first) == _flat(alone)
    assert others == [[]] * (size - 1)  # they have no results


def _flat(value: Any) -> Any:
    """The value with its arrays as bytes, to compare bit for bit."""
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if is_dataclass(value):
        return {field.name: _flat(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _flat(one) for key, one in value.items()}
    return [_flat(one) for one in value] if isinstance(value, list | tuple) else value


def test_ranks_with_other_pairs_are_refused(tiny, noise_pairs, tmp_path: Path) -> None:
    csv = noise_pairs([f"a red circle number {index}" for index in range(60)])
    other = tmp_path / "other.csv"
    other.write_text(Path(csv).read_text().replace("red", "blue"))

    def built(ranks: Ranks) -> str:
        mine = str(other) if ranks.rank else csv  # as if under one path on two disks
        with pytest.raises(ValueError, match=r"rank 1 has other pairs of data\.train than rank 0"):
            build_cohort({"run": tiny(data={"train": mine, "validation": ""})}, ranks=ranks)
        return "refused"

    assert on_ranks(built, 2, tmp_path) == ["refused"] * 2


def test_a_rank_resumes_from_the_same_checkpoint_or_not_at_all(tiny, tmp_path: Path) -> None:
    config = tiny(data={"validation": ""}, train={"num_steps": 8})
    list(launch({"run": config}, tmp_path / "here").events())
    mine, other = RunDirectory(tmp_path / "here/run"), RunDirectory(tmp_path / "there/run")
    shutil.copytree(mine.path, other.path)
    shutil.rmtree(other.checkpoints / "step-00000008")  # an old copy, on the disk of another machine

    def resumed(ranks: Ranks) -> str:
        with pytest.raises(ValueError, match="rank 1 has other checkpoints of the run than rank 0"):
            build_cohort({"run": config}, {"run": other if ranks.rank else mine}, resume=True, ranks=ranks)
        order = Order({"run": config}, {"run": tmp_path / "nowhere/run"}, tmp_path / "nowhere", resume=True)
        if ranks.is_first:
            ranks.of_first(order)
        else:
            with pytest.raises(ValueError, match=r"share the runs folder|copy this run there"):
                train_along(ranks)
        return "refused"

    assert on_ranks(resumed, 2, tmp_path) == ["refused"] * 2
