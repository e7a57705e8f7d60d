"""Several ranks train one run: bit-identical to one process with micro-batches of a rank's size."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from workbench.config.toml import load_recipe
from workbench.engine.build import build_cohort
from workbench.engine.distributed import ALONE, Ranks, joined

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


def spawn(size: int, arguments: list[str], **environment: str) -> list[subprocess.Popen[str]]:
    """Start ``python arguments`` as the ranks of one run, as torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def on_ranks(name: str, size: int, folder: Path) -> list[tuple[list[float], dict[str, torch.Tensor]]]:
    processes = spawn(size, [__file__, name, str(folder)])
    for process in processes:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    return [torch.load(folder / f"{rank}.pt") for rank in range(size)]


@pytest.mark.parametrize(
    "name",
    ["every loss", *(pytest.param(one, marks=pytest.mark.slow) for one in ("teacher in memory", "all candidates"))],
)
def test_two_ranks_are_bit_identical_to_micro_batches_of_half_the_batch(name: str, tmp_path: Path) -> None:
    both = on_ranks(name, 2, tmp_path)
    losses, weights = train(name, ALONE, as_ranks=2, **{"train.micro_batch_size": BATCH // 2})
    for rank_losses, rank_weights in both:
        assert rank_losses == losses
        assert all(torch.equal(rank_weights[key], weights[key]) for key in weights)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("every loss", 3), ("micro-batches", 2)])
def test_uneven_ranks_and_micro_batches_have_the_losses_of_one_process(name: str, size: int, tmp_path: Path) -> None:
    # Sums over pairs are in another order, so the last bits differ.
    ranks = on_ranks(name, size, tmp_path)
    losses, _ = train(name, ALONE)
    for rank_losses, rank_weights in ranks:
        assert rank_losses == pytest.approx(losses, rel=1e-6)
        assert all(torch.equal(rank_weights[key], tensor) for key, tensor in ranks[0][1].items())


def test_rows_cover_a_batch_and_differ_by_at_most_one() -> None:
    for size in (1, 2, 3, 5):
        rows = [list(range(17))[Ranks(rank, size).rows(17)] for rank in range(size)]
        assert [row for part in rows for row in part] == list(range(17))
        assert max(map(len, rows)) - min(map(len, rows)) <= 1


def main(name: str, folder: str) -> None:
    torch.set_num_threads(1)
    with joined() as ranks:
        torch.save(train(name, ranks), Path(folder) / f"{ranks.rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
