"""Every screen as text, compared with a stored snapshot.

After an intended change: ``WORKBENCH_NEW_SNAPSHOTS=1 pytest tests/tui/test_snapshots.py``, and read the difference.
"""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from workbench.events import Commanded, Warned
from workbench.runs.snapshots import PLACES, Gradients, Probe, ProbeOutputs, write_snapshot

STORED = Path(__file__).parent / "snapshots"
SCREENS = {
    "home": ("home", ""),
    "loss": ("run", "1"),
    "metrics": ("run", "2"),
    "gradients": ("run", "5"),
    "keys": ("run", "6 o question_mark"),  # the matrices are color alone: run/test_affinity.py checks them
    "study": ("study", "1"),
    "study-runs": ("study", "2"),
    "start": ("home", "N"),
}
SIZES = ((80, 24), (140, 45))
CELLS = {f"{weight}": {"loss.fd.weight": weight} for weight in (0, 10, 100)}


@pytest.fixture
def full(record, monkeypatch: pytest.MonkeyPatch):
    """A run with every kind of data, and a study."""
    monkeypatch.setenv("TZ", "UTC")
    record.study("fd_weight", CELLS)
    command = Commanded(run="full", step=50, command="set", arguments={"loss.icl.weight": 2.0}, time_s=1e9)
    run = record("full", extra=[command, Warned(run="full", step=60, message="a [/b] warning", time_s=1e9)])
    products = dict.fromkeys(PLACES, np.array([[4.0, -1.0], [-1.0, 1.0]]))
    for step in (1, 50, 100):
        write_snapshot(run, Gradients(step, ("clip", "fd"), products))
    eye = np.eye(8, dtype=np.float16)
    write_snapshot(
        run,
        Probe(
            100, tuple(f"caption {n}" for n in range(8)), ProbeOutputs(eye / 2, eye, 9.0), ProbeOutputs(eye, eye, 9.0)
        ),
    )
    return run


def as_stored(text: str) -> str:
    """The text without what varies between machines: the folder, the time left, and trailing blanks."""
    text = re.sub(r" · about [^·\n]*", "", text)
    return "\n".join(re.sub(r"  /[^ ]*/.*", "", line).rstrip() for line in text.splitlines()) + "\n"


def stored(name: str) -> str:
    file = STORED / f"{name}.txt"
    return file.read_text(encoding="utf-8") if file.exists() else ""


def compare(name: str, text: str) -> None:
    file = STORED / f"{name}.txt"
    if os.environ.get("WORKBENCH_NEW_SNAPSHOTS"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == stored(name), f"{name} looks different"


@pytest.mark.parametrize("target", ["home", "run", "study"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_screens_match_their_snapshots(full, drive, seen, soon, size, target: str) -> None:
    found: dict[str, str] = {}
    ready = {
        "home": lambda pilot: "loading" not in seen(pilot),
        "run": lambda pilot: pilot.app.screen.snapshot_reader.num_readings > 0,
        "study": lambda pilot: pilot.app.screen.study_state is not None,
    }

    async def steps(pilot) -> None:
        if target == "run":
            await pilot.press("6")  # snapshots are read when their pane is opened
        await soon(lambda: ready[target](pilot))
        for name, (where, key) in SCREENS.items():
            if where == target:
                await pilot.press(*key.split())
                file = f"{name}-{size[0]}x{size[1]}"
                for _ in range(30):  # on a busy machine the screen may still be incomplete
                    await pilot.pause(0.1)
                    found[file] = as_stored(seen(pilot))
                    if found[file] == stored(file):
                        break

    drive(steps, full if target == "run" else None, size, "fd_weight" if target == "study" else "")
    for name, text in found.items():
        compare(name, text)
