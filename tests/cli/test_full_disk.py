"""Commands on a full disk: one line with the needed space and the remedy, and no partial output."""

import re
import sys
from pathlib import Path

import pytest

WORKBENCH = [sys.executable, "-m", "workbench"]
ROOM = r"disk full at \S+: needs about [\d.,]+ (bytes|kB|MB|GB), has [\d.]+ (bytes|kB|MB)"


def fill(left_kb: int) -> str:
    """Shell commands that fill the disk except for so many kilobytes."""
    free = "$(df --output=avail -k . | tail -1)"
    return f"dd if=/dev/zero of=filler bs=1k count=$(({free} - {left_kb})) 2>/dev/null"


def cached(folder: str = ".") -> list[str]:
    """The command line with its cache in ``folder`` of the disk."""
    return ["env", f"WORKBENCH_CACHE={folder}", *WORKBENCH]


CASES = {
    "samples": (
        (*WORKBENCH, "data", "samples", "scenes", "--split", "train", "--pairs", "3000", "--out", "a"),
        "--out",
    ),
    "all-samples": ((*WORKBENCH, "data", "samples", "emoji", "--split", "test", "--out", "a"), "--out DIR"),
    "prepare": ((*cached(), "data", "prepare", "samples:scenes/train", "--pairs", "9000"), "WORKBENCH_CACHE"),
    "train": (
        (*cached(), "train", "--set", "data.num_pairs=9000", "--steps", "1", "--runs", "ELSEWHERE"),
        "WORKBENCH_CACHE",
    ),
    "inherit": ((*WORKBENCH, "inherit", "--teacher", "sample:scenes", "--depth", "0.5", "--out", "half"), "--out DIR"),
    "export": ((*WORKBENCH, "export", "sample:scenes", "--out", "exported"), "--out DIR"),
    "import": ((*WORKBENCH, "teacher", "import", "sample:scenes", "--pairs", "100"), "--out DIR"),
}
SLOW = ("train", "inherit", "export", "import")  # they import torch


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CASES])
def test_a_command_on_a_full_disk_leaves_nothing(on_small_disk, name: str, tmp_path: Path) -> None:
    words, remedy = CASES[name]
    elsewhere = tmp_path / "runs"
    command = [str(elsewhere) if word == "ELSEWHERE" else word for word in words]
    result = on_small_disk("2m", command, before=fill(300))
    lines = [line for line in result.stderr.splitlines() if line.startswith("workbench:")]
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert re.search(ROOM, lines[-1]), lines
    assert "make room there, or" in lines[-1]
    assert remedy in lines[-1]
    left = set(result.stdout.splitlines()[-1].removeprefix("left:").split())
    assert left <= {"index", "prepared", "readable", "samples"}
    assert not elsewhere.exists() or not list(elsewhere.iterdir())


@pytest.mark.slow
def test_a_log_on_a_full_disk_ends_no_training(on_small_disk, tiny_recipe: str, tmp_path) -> None:
    command = f"{' '.join(WORKBENCH)} train --recipe {tiny_recipe} --runs {tmp_path / 'runs'} --json 2> log"
    result = on_small_disk("1m", ["sh", "-c", command], before="dd if=/dev/zero of=filler 2>/dev/null; true")
    assert result.returncode == 0, result.stderr
    assert '"state": "finished"' in result.stdout


@pytest.mark.slow
def test_a_recipe_is_complete_or_absent(on_small_disk, tiny_recipe: str) -> None:
    command = [*WORKBENCH, "calibrate", "--recipe", tiny_recipe, "--batches", "1", "--out", "mine.toml"]
    result = on_small_disk("1m", command, before="dd if=/dev/zero of=filler 2>/dev/null; true")
    assert result.returncode == 2
    assert re.search(ROOM, result.stderr)
    assert "--out FILE" in result.stderr
    assert result.stdout == "left:\n"


@pytest.mark.slow
def test_a_study_whose_runs_all_failed_shows_it_in_table_and_exit_status(on_small_disk, tiny_recipe) -> None:
    study = f'question = "?"\nrecipe = "{tiny_recipe}"\nseeds = 1\nbaseline = "0"\n[grid]\nloss.fd.weight = [0, 5]\n'
    before = f"cat > grid.toml <<'X'\n{study}X\n{fill(200)}"
    result = on_small_disk("2m", [*WORKBENCH, "sweep", "--study", "grid.toml", "--quick"], before=before)
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert re.search(f"0: failed: {ROOM}", result.stdout)
    assert "--resume" in result.stderr
