"""Exports of a real run to every format, and of its log to other tools, whose errors never affect the run."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.adapters.hub_server import TOKEN, local_hub
from workbench import load_student
from workbench.cli import export as command
from workbench.files import DiskFullError
from workbench.models import export
from workbench.models.export import MismatchError
from workbench.models.folder import WEIGHTS
from workbench.runs.directory import create_run


@pytest.fixture
def trained(workbench, tiny_recipe: str):
    """The command line, where the run "alone" has finished with projections, scales and optimiser state."""
    assert workbench("train", "--recipe", tiny_recipe, "--name", "alone", "--json").code == 0
    return workbench


def test_a_run_becomes_a_small_folder(trained) -> None:
    result = trained("export", "alone", "--out", "student", "--json")
    assert (result.code, result.err) == (0, "")
    document = json.loads(result.out)
    assert (document["source"], document["format"], document["dir"]) == (
        "alone",
        "native",
        str(Path("student").absolute()),
    )
    assert document["files"] == {path.name: path.stat().st_size for path in Path("student").iterdir()}
    assert document["size_mb"] < document["source_size_mb"] / 2.5
    assert document["max_abs_difference"] == 0
    student = load_student("student")
    with safe_open(Path("student") / WEIGHTS, "pt") as file:
        names = set(file.keys())
    assert names == student.towers.state_dict().keys()
    assert not [name for name in names if any(word in name for word in ("learnt", "optimizer", "crd", "icl", "fd"))]
    assert document["num_params"]["total"] == sum(p.numel() for p in student.towers.parameters())
    trained_weights = load_student("alone").towers.state_dict()
    assert all(torch.equal(tensor, trained_weights[name]) for name, tensor in student.towers.state_dict().items())
    assert trained("evaluate", "student", "--data", "samples:scenes/validation", "--pairs", "20").code == 0


def test_a_card_goes_with_the_folder_and_both_to_the_hub_in_one_commit(trained, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with local_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        options = ("--card", "--push", "hf:me/student", "--private", "--json")
        result = trained("export", "alone", "--out", "student", *options)
    assert result.code == 0
    document = json.loads(result.out)
    assert document["url"] == f"{hub.url}/me/student/commit/{'0' * 40}"
    files = {path.name: path.read_bytes() for path in Path("student").iterdir()}
    assert [commit["files"] for commit in hub.commits] == [files]
    assert hub.created == {"me/student": True}
    card = files["README.md"].decode()
    assert "hf download me/student --local-dir student" in card
    assert "12 of 12, batch 20" in card
    assert load_student("student").image_size == load_student("alone").image_size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--card",), "--card needs a run"),
        (("--private",), "--private needs --push"),
        (("--push", "me/student"), "--push takes hf:USER/NAME"),
        (("--push", "hf:me/student"), "cannot reach the Hugging Face Hub"),
    ],
)
def test_what_a_card_and_an_upload_need_is_one_line_and_nothing_is_written(
    workbench, tiny_models, monkeypatch, options: tuple[str, ...], message: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    result = workbench("export", tiny_models["teacher"], "--out", "out", *options)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert message in result.err
    assert not Path("out").exists()


def test_what_a_person_reads_ends_in_lines_of_python_that_run(workbench, tiny_models) -> None:
    for format, name in (("native", "student"), ("open_clip", "model")):
        result = workbench("export", tiny_models["teacher"], "--out", format, "--format", format)
        assert (result.code, result.err) == (0, "")
        said, _, program = result.out.partition("use it:\n")
        assert f"{format}: 0." in said
        assert "parameters" in said
        scope: dict[str, object] = {}
        exec(program, scope)
        assert scope[name].encode_text is not None  # type: ignore[attr-defined]  # of either kind


@pytest.mark.slow
def test_onnx_ends_in_lines_that_run(workbench, tiny_models) -> None:
    result = workbench("export", tiny_models["teacher"], "--out", "there", "--format", "onnx")
    assert (result.code, result.err) == (0, "")
    scope = {"images": torch.zeros(2, 3, 16, 16).numpy()}
    exec(result.out.partition("use it:\n")[2], scope)
    assert scope["image_BD"].shape == (2, 24)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sample:scenes", "--format", "onyx"), "did you mean 'onnx'?"),
        (("sample:scenes", "--format", "onnx", "--half"), "drop --half"),
        (("sample:scnes",), "did you mean 'scenes'?"),
        (("nowhere",), "a model is a built-in size"),
        (("empty",), "cannot read empty/open_clip_config.json"),
        (("torn",), "torn"),
        (("sample:scenes", "--out", "taken"), "taken exists already and holds file: name another with --out DIR"),
        (("sample:scenes", "--out", "taken/file/below"), "is not a writable folder"),
    ],
)
def test_bad_input_is_one_line_with_the_remedy(workbench, tiny_models, arguments, message) -> None:
    Path("empty").mkdir()
    Path("taken").mkdir()
    Path("taken/file").touch()
    Path("torn").mkdir()
    for path in Path(tiny_models["teacher"]).iterdir():
        Path("torn", path.name).write_bytes(path.read_bytes()[: 1000 if path.name == WEIGHTS else None])
    out = () if "--out" in arguments else ("--out", "out")
    result = workbench("export", *arguments, *out)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert message in result.err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MismatchError("it differs"), 1, "workbench: it differs\n"),
        (
            DiskFullError(Path("out/x"), 3_000_000),
            2,
            "workbench: cannot write out: disk full at out/x: needs about 3.0 MB",
        ),
        (PermissionError(13, "Permission denied"), 2, "workbench: cannot write out: Permission denied; name another"),
    ],
)
def test_what_fails_while_writing_is_one_line(workbench, tiny_models, monkeypatch, error, code, message) -> None:
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(export, "export_model", fail)
    result = workbench("export", tiny_models["teacher"], "--out", "out")
    assert (result.code, result.out, result.err.count("\n")) == (code, "", 1)
    assert result.err.startswith(message)


def test_the_formats_and_sources_are_completed_without_torch() -> None:
    import subprocess
    import sys

    program = (
        "import sys; from workbench.cli.completion import complete_format; "
        "assert [name for name, _ in complete_format()] == ['native', 'open_clip', 'transformers', 'onnx']; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


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
    monkeypatch.setattr(command, "OUTCOME_WAIT_S", 1.0 if fault == "hangs" else 30.0)
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
def test_a_bad_export_of_a_log_is_one_line_with_the_remedy(workbench, arguments: list[str], remedy: str) -> None:
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
