"""Commands on a really full disk: one line that says what is needed, the remedy, and nothing half-written."""

import re
import sys

import pytest

WORKBENCH = [sys.executable, "-m", "workbench"]
ROOM = r"disk full at \S+: needs about [\d.,]+ (kB|MB|GB), has [\d.]+ (kB|MB)"


def fill(left_kb: int) -> str:
    """Shell commands that fill the disk except for so many kilobytes."""
    free = "$(df --output=avail -k . | tail -1)"
    return f"dd if=/dev/zero of=filler bs=1k count=$(({free} - {left_kb})) 2>/dev/null"


def cached(folder: str = ".") -> list[str]:
    """The command line with its cache in ``folder`` of the disk."""
    return ["env", f"WORKBENCH_CACHE={folder}", *WORKBENCH]


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        (
            (*WORKBENCH, "data", "samples", "scenes", "--split", "train", "--pairs", "3000", "--out", "pairs"),
            "--out DIR",
        ),
        ((*WORKBENCH, "data", "samples", "emoji", "--split", "test", "--out", "pairs"), "--out DIR"),
        ((*cached(), "data", "prepare", "samples:scenes/train", "--pairs", "9000"), "WORKBENCH_CACHE"),
        ((*WORKBENCH, "inherit", "--teacher", "sample:scenes", "--depth", "0.5", "--out", "half"), "--out DIR"),
        ((*WORKBENCH, "export", "sample:scenes", "--out", "exported"), "--out DIR"),
        ((*WORKBENCH, "teacher", "import", "sample:scenes", "--pairs", "100"), "--out DIR"),
    ],
    ids=lambda value: value[-1] if isinstance(value, str) else "-".join(value[-6:-3]),
)
def test_a_command_on_a_full_disk_leaves_nothing(on_small_disk, command, remedy) -> None:
    result = on_small_disk("2m", command, before=fill(300))
    lines = [line for line in result.stderr.splitlines() if line.startswith("workbench:")]
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert re.search(ROOM, lines[-1]), lines
    assert "make room there, or" in lines[-1]
    assert remedy in lines[-1]
    left = set(result.stdout.splitlines()[-1].removeprefix("left:").split())
    assert left <= {"samples", "samples/scenes-v1", "index", "prepared", "readable", "teacher"}
    assert not [name for name in left if ".tmp-" in name]
