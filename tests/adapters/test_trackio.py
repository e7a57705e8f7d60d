"""The exported database, read with trackio's own command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.adapters.sink import PROJECT

pytest.importorskip("trackio")


@pytest.fixture
def exported(run, say, monkeypatch):
    """Exports the run in a process of its own, as people do, and gives a metric as trackio's command has it."""
    for name in [name for name in os.environ if name.startswith("TRACKIO_")]:
        monkeypatch.delenv(name)

    def export_again(*events):
        say(*events)
        command = [sys.executable, "-m", "workbench", "runs", "export", str(run.path), "--to", "trackio", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["next"].startswith(f"see it with: TRACKIO_DIR={run.path.parent / 'trackio'} ")
        return lambda metric: read(run.path.parent / "trackio", metric)

    return export_again


def read(folder: Path, metric: str) -> dict[int, float]:
    program = Path(sys.executable).with_name("trackio")
    command = [program, "get", "metric", "--project", PROJECT, "--run", "one", "--metric", metric, "--json"]
    environment = os.environ | {"TRACKIO_DIR": str(folder)}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return {entry["step"]: entry["value"] for entry in json.loads(printed)["values"]}


def test_metrics_are_read_back_at_their_steps(exported, make) -> None:
    metric = exported(make.started(), make.step_done(10, 3.0), make.eval_done(10, 0.5), make.finished(10))
    assert metric("train/loss") == {10: 3.0}
    assert metric("validation/image_to_text_r1") == {10: 0.5}


@pytest.mark.slow
def test_exporting_again_replaces_what_was_there(exported, make) -> None:
    exported(make.started(), make.step_done(10, 3.0), make.step_done(20, 9.0), make.step_done(30, 9.0))
    metric = exported(make.resumed(10), make.step_done(20, 2.0), make.finished(20))
    assert metric("train/loss") == {10: 3.0, 20: 2.0}
