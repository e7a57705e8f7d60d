import subprocess
import sys
from pathlib import Path

import pytest

from workbench.events import RunFinished
from workbench.runs.directory import create_run
from workbench.runs.log import EventLog

TOOL = Path(__file__).with_name("screens.py")
ORIGIN = '[sweep]\nstudy = "mine"\ncell = "a"\nseed = 0\ntrial = 0\n'


@pytest.mark.slow
def test_the_screenshots_need_no_web_font(tmp_path: Path) -> None:
    run = create_run(tmp_path / "runs", "one", f'recipe = "clip-kd"\nseed = 0\n{ORIGIN}')
    EventLog(run.events_file).append(RunFinished(run="one", step=10, state="finished", elapsed_s=1.0))
    subprocess.run([sys.executable, TOOL, tmp_path / "runs", tmp_path / "out"], check=True, capture_output=True)
    images = sorted((tmp_path / "out").iterdir())
    assert [image.stem for image in images] == ["tui_affinity", "tui_loss", "tui_runs", "tui_study", "tui_workspace"]
    for image in images:
        svg = image.read_text()
        assert "@font-face" not in svg
        assert "http://www.w3.org" in svg
        assert "cdnjs" not in svg
