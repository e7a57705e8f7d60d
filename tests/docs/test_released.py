"""The script that goes from a released student to a table, run as it stands on the page."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.models import layouts
from tests.models.test_released import SMALL, state
from workbench import load_run, load_student

PAGE = Path(__file__).parents[2] / "workbench" / "docs" / "released.md"
STEPS = 4


def script() -> str:
    [found] = re.findall(r"^```python\n(# table\.py: .*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return found


def test_the_script_has_thirty_lines_at_most() -> None:
    assert len(script().splitlines()) <= 30


@pytest.mark.slow
def test_the_script_prints_a_table_of_teacher_released_and_distilled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    released = state(SMALL)
    torch.save({"state_dict": layouts.tinyclip(released)}, "student.pt")
    torch.save(layouts.clip_kd(state(SMALL, seed=6)), "teacher.pt")
    pixels = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 10)):
        for name in ("cat", "dog", "red_fox"):
            folder = Path("images", split, name)
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(pixels.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{number}.jpg")
    Path("table.py").write_text(script())
    command = [sys.executable, "table.py", "student.pt", "teacher.pt", "images", str(STEPS)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    head, _, *rows = result.stdout.splitlines()
    assert head == "| model | parameters (M) | zero-shot top-1 (%) | standard error |"
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [cell[0] for cell in cells] == ["teacher", "released", "distilled"]
    size = sum(value.numel() for value in released.values()) / 1e6
    for _, shown, top1, error in cells:
        assert float(shown) == pytest.approx(size, abs=0.06)
        share = float(top1) / 100
        assert share * 30 == pytest.approx(round(share * 30), abs=0.02)  # of 30 held-out images
        assert float(error) / 100 == pytest.approx((share * (1 - share) / 30) ** 0.5, abs=0.003)
    [run] = Path("runs").glob("affinity-*")
    assert load_run(run).summary.step == STEPS
    distilled = load_student(run).towers.state_dict()
    moved = max((distilled[name] - value).abs().max().item() for name, value in released.items())
    assert 0 < moved < 10 * STEPS * 1e-5  # it was trained on from the released weights
