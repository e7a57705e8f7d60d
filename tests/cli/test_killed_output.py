"""SIGKILL while a command writes: complete output or none, and the next command removes leftovers."""

import itertools
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.data.samples.write import fault_of_samples
from workbench.models.names import fault_of_folder

KILLS = 25
MOST_KILLS = 100  # on a busy machine many fall before or after the writing
COMMANDS = {
    "inherit": (["inherit", "--teacher", "TEACHER", "--set", "text.channels=0.5"], fault_of_folder),
    "export": (["export", "TEACHER"], fault_of_folder),
    "samples": (
        ["data", "samples", "scenes", "--split", "test", "--pairs", "4"],
        lambda out: fault_of_samples(out / "test"),
    ),
}


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith((".tmp-", ".old-"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_leaves_complete_output_or_none(
    name: str, workbench, tiny_models, tmp_path: Path, forked: Callable
) -> None:
    words, fault = COMMANDS[name]
    command = [tiny_models["teacher"] if word == "TEACHER" else word for word in words]

    def write(out: Path) -> int:
        return workbench(*command, "--out", str(out)).code

    def write_slowly(out: Path) -> None:
        sync = os.fsync
        os.fsync = lambda descriptor: (time.sleep(0.01), sync(descriptor))  # a slow disk, so that kills hit it
        assert write(out) == 0

    assert write(tmp_path / "first") == 0  # and torch is loaded
    start = time.monotonic()
    with forked(write_slowly, tmp_path / "second") as process:
        process.join()
    duration_s = time.monotonic() - start
    folder, delays, num_left = tmp_path / "out", random.Random(0), 0
    for number in range(MOST_KILLS):
        if number >= KILLS and num_left:
            break
        with forked(write_slowly, folder / str(number)) as process:
            process.join(delays.uniform(0, duration_s))
        left = leftovers(folder)
        num_left += len(left)
        for out in folder.glob("[0-9]*"):
            is_empty = all(path in left for path in out.iterdir())  # an empty folder is in nobody's way
            assert is_empty or fault(out) is None
        if left:
            assert write(folder / str(number)) == 0
            assert leftovers(folder) == []
    assert num_left > 0  # some kills fell in the middle of writing


@pytest.mark.slow
def test_samples_drawn_on_first_use_are_whole_or_drawn_again(killed, monkeypatch, tmp_path: Path) -> None:
    from workbench.data.samples.registry import sample_shards

    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))

    def draw(counter) -> None:
        for number in itertools.count(1):
            sample_shards("scenes", "teacher", 1 + (number + os.getpid()) % 4000)
            counter.value += 1

    for _ in killed(draw, KILLS):
        folders = [folder for folder in (tmp_path / "samples/scenes-v1").iterdir() if not folder.name.startswith(".")]
        assert {fault_of_samples(folder) for folder in folders} == {None}
    sample_shards("emoji", "test", 0)
    sample_shards("scenes", "teacher", 4500)
    assert leftovers(tmp_path) == []
