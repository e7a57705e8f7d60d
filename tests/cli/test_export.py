"""``workbench export`` of a real run to every format."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from workbench import load_student
from workbench.files import DiskFullError
from workbench.models import export
from workbench.models.export import MismatchError
from workbench.models.folder import WEIGHTS


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
        (("empty",), "no model here: cannot read empty/open_clip_config.json"),
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
        "assert [name for name, _ in complete_format()] == ['native', 'open_clip', 'onnx']; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
