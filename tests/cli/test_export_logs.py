"""Exports to other tools: their errors never affect the run."""

import json
import os
import signal
from pathlib import Path

import pytest

from workbench.cli import export_logs
from workbench.runs.directory import create_run

FINE = """
def init(*_, **__): pass
def log(*_, **__): pass
def finish(): pass
class Api:
    def runs(self, project): return []
"""
FAULTS = {
    "cannot be imported": "import no_such_module",
    "raises at the start": FINE + "\ndef init(*_, **__): raise RuntimeError('no server\\nand a long story')\n",
    "raises amid the run": FINE + "\ndef log(*_, **__): raise ConnectionError('gone')\n",
    "meets a full disk": FINE + "\ndef log(*_, **__): open('/dev/full', 'w', buffering=1).write('x\\n')\n",
    "is killed": FINE + "\nimport os\ndef log(*_, **__): os.kill(os.getpid(), 9)\n",
    "hangs": FINE + "\nimport time\ndef log(*_, **__): time.sleep(600)\n",
}
OFTEN = ("raises amid the run", "meets a full disk", "hangs")
SAID = {
    "cannot be imported": "workbench: trackio failed: No module named 'no_such_module'",
    "raises at the start": "workbench: trackio failed: no server; the run is not affected; retry with:",
    "raises amid the run": "workbench: trackio failed: gone; the run is not affected",
    "meets a full disk": "workbench: trackio failed: No space left on device; the run is not affected",
    "is killed": "trackio was killed; the run is not affected; retry with: workbench runs export",
    "hangs": "trackio is still writing, as process",
}


@pytest.fixture
def fake_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``fake_trackio(source)``: the package called trackio, here and in the processes that are started."""
    folder = tmp_path / "fake"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return (folder / "trackio.py").write_text


@pytest.fixture
def alone(workbench, tiny_recipe: str):
    """The command line, where a run that no one copied has finished; and what it printed."""
    return workbench, json.loads(workbench("train", "--recipe", tiny_recipe, "--name", "alone", "--json").out)


@pytest.fixture(scope="module")
def _known() -> dict[str, str]:
    return {}


@pytest.fixture
def weights(_known: dict[str, str], request: pytest.FixtureRequest) -> str:
    """The checksum of its weights, found once."""
    if not _known:
        _known["weights"] = request.getfixturevalue("alone")[1]["weights_sha256"]
    return _known["weights"]


def test_a_run_is_copied_while_it_trains(workbench, tiny_recipe: str, fake_trackio, weights: str) -> None:
    fake_trackio(FINE)
    result = workbench("train", "--recipe", tiny_recipe, "--name", "one", "--log-to", "trackio", "--json")
    assert result.code == 0
    assert json.loads(result.out)["weights_sha256"] == weights
    assert "one is in trackio up to step 12; see it with: TRACKIO_DIR=" in result.err


@pytest.mark.parametrize(
    "fault", [fault if fault in OFTEN else pytest.param(fault, marks=pytest.mark.slow) for fault in FAULTS]
)
def test_a_tool_that_fails_never_touches_the_run(
    workbench, tiny_recipe: str, fake_trackio, weights: str, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    fake_trackio(FAULTS[fault])
    monkeypatch.setattr(export_logs, "OUTCOME_WAIT_S", 1.0 if fault == "hangs" else 30.0)
    result = workbench("train", "--recipe", tiny_recipe, "--name", "one", "--log-to", "trackio", "--json")
    last = result.err.strip().splitlines()[-1]
    assert (result.code, json.loads(result.out)["weights_sha256"]) == (0, weights)
    assert last.startswith(SAID[fault])
    assert "Traceback" not in Path("runs/one/trackio.log").read_text()
    if fault == "hangs":
        os.kill(int(last.partition("process ")[2].partition(":")[0]), signal.SIGKILL)


def test_a_process_that_cannot_be_started_is_a_warning(workbench, tiny_recipe: str, fake_trackio, monkeypatch) -> None:
    fake_trackio(FINE)

    def no_more_processes(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("workbench.process.subprocess.Popen", no_more_processes)
    result = workbench("train", "--recipe", tiny_recipe, "--name", "one", "--log-to", "trackio")
    assert result.code == 0
    assert "Resource temporarily unavailable; the run continues without trackio" in result.err


@pytest.mark.parametrize("arguments", [["train"], ["runs", "resume", "one"], ["runs", "fork", "one"]])
def test_a_missing_package_is_reported_before_training(workbench, arguments: list[str], monkeypatch) -> None:
    monkeypatch.setattr("workbench.adapters.export.find_spec", lambda _: None)
    result = workbench(*arguments, "--log-to", "wandb")
    assert result.code == 2
    assert (
        result.err == "workbench: Weights & Biases is not installed: pip install 'clip-distillation-workbench[wandb]'\n"
    )
    assert not Path("runs").exists()


def test_a_finished_run_is_copied_when_asked(alone) -> None:
    pytest.importorskip("tensorboard")
    workbench, _ = alone
    result = workbench("runs", "export", "alone", "--to", "tensorboard", "--out", "elsewhere", "--json")
    document = json.loads(result.out)
    assert (document["id"], document["to"], document["step"]) == ("alone", "tensorboard", 12)
    assert document["next"] == f"see it with: tensorboard --logdir {Path('elsewhere/tensorboard').absolute()}"
    assert len(list(Path("elsewhere/tensorboard/alone").iterdir())) == 1
    assert [entry["id"] for entry in json.loads(workbench("runs", "list", "--json").out)["runs"]] == ["alone"]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["alone", "--to", "tensorbord"], "did you mean 'tensorboard'?"),
        (["alonee", "--to", "tensorboard"], "did you mean 'alone'?"),
    ],
)
def test_bad_input_is_one_line_with_the_remedy(workbench, arguments: list[str], remedy: str) -> None:
    create_run(Path("runs"), "alone", "")
    result = workbench("runs", "export", *arguments)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert remedy in result.err


def test_a_path_that_cannot_be_written_is_an_error(workbench) -> None:
    pytest.importorskip("tensorboard")
    create_run(Path("runs"), "alone", "")
    Path("taken").write_text("a file")
    result = workbench("runs", "export", "alone", "--to", "tensorboard", "--out", "taken")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "tensorboard failed: Not a directory" in result.err
