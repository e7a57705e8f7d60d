"""An ``--out`` that exists: complete or not, and the remedy, without importing torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.cli.options import OUT_FILE, RECORDS, check_free
from workbench.data.samples.registry import draw_shards
from workbench.models.names import CONFIG, WEIGHTS


def refusal(out: Path, option: str = "--out DIR") -> str:
    with pytest.raises(ValueError, match="exists already") as found:
        check_free(out, option)
    assert str(found.value).endswith(f"name another with {option}")
    return str(found.value)


@pytest.fixture
def model(tiny_models, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in Path(tiny_models["teacher"]).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_what_is_free(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_free(tmp_path / "empty")
    check_free(tmp_path / "a" / "b")
    check_free(tmp_path / "mine.toml", OUT_FILE)


def test_a_complete_model_is_reported_as_complete(model: Path) -> None:
    assert f"is complete: evaluate it (workbench evaluate {model}" in refusal(model)


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("harm", ["missing", "cut", "garbage"])
def test_a_partial_model_is_reported_as_incomplete(model: Path, file: str, harm: str) -> None:
    content = (model / file).read_bytes()
    if harm == "missing":
        (model / file).unlink()
    else:
        (model / file).write_bytes(content[:-2] if harm == "cut" else b"garbage of any kind")
    found = refusal(model)
    assert "is incomplete" in found
    assert file in found
    assert f"rm -r {model}" in found


def test_samples_recipes_and_onnx(tmp_path: Path) -> None:
    folder = draw_shards("scenes", "test", 3, tmp_path / "test")
    assert f"is complete: check it (workbench data check {folder})" in refusal(folder)
    (folder / "00000.tar").unlink()
    assert "rm " not in refusal(folder)  # no command with this check writes samples
    recipe = tmp_path / "mine.toml"
    recipe.write_text('# Made by: workbench calibrate\nextends = "clip-kd"\n')
    assert f"is complete: train with it (workbench train --recipe {recipe})" in refusal(recipe, OUT_FILE)
    recipe.write_text('# Made by: workbench calibrate\nextends = "clip-')
    assert "is incomplete" in refusal(recipe, OUT_FILE)
    assert f"rm {recipe}" in refusal(recipe, OUT_FILE)
    onnx = tmp_path / "onnx"
    onnx.mkdir()
    (onnx / "image.onnx").touch()
    assert "text.onnx is missing" in refusal(onnx)
    for name in ("text.onnx", "config.json", "tokenizer.json"):
        (onnx / name).touch()
    assert "is complete" in refusal(onnx)


def test_files_of_somebody_else_are_not_to_be_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").touch()
    found = refusal(tmp_path / "thesis")
    assert "holds chapter1.tex" in found
    assert "rm " not in found


@pytest.mark.parametrize("option", [OUT_FILE, "--out DIR"])
@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b'extends = "clip-', b'extends = "clip-kd"\n', b"\xff\xfe", b""])
def test_a_file_of_somebody_else_is_only_in_the_way(tmp_path: Path, content: bytes, option: str) -> None:
    file = tmp_path / "good.csv"
    file.write_bytes(content)
    assert refusal(file, option) == f"{file} exists already: name another with {option}"


def test_a_recipe_is_not_what_a_command_for_folders_wrote(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('# Made by: workbench calibrate\nextends = "clip-')
    assert "rm " not in refusal(recipe)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "out.toml")
    assert "rm " not in refusal(tmp_path / "pipe" / "out.toml", OUT_FILE)


@pytest.mark.parametrize("names", [[CONFIG], ["image.onnx"]])
def test_a_partial_model_beside_other_files_is_not_to_be_removed(tmp_path: Path, names: list[str]) -> None:
    for name in [*names, "thesis.tex"]:
        (tmp_path / name).touch()
    found = refusal(tmp_path)
    assert "incomplete" not in found
    assert "rm " not in found


def test_the_records_of_a_teacher_are_known() -> None:
    from workbench.engine import remeasure
    from workbench.preflight import import_teacher

    assert {remeasure.METRICS, remeasure.CONFIG, remeasure.LOG, import_teacher.RECORD} == set(RECORDS)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["export", "sample:scenes", "--format", "onyx", "--out", "x"], "did you mean 'onnx'"),
        (["export", "sample:scenes", "--out", "taken"], "exists already"),
        (["export", "nowhere", "--out", "x"], "unknown model"),
        (["export", "run:nowhere", "--out", "x"], "there are no runs in"),
        (["export", "sample:scnes", "--out", "x"], "did you mean 'scenes'"),
        (["inherit", "--teacher", "sample:scenes", "--depth", "1", "--out", "taken"], "exists already"),
        (["inherit", "--teacher", "run:nowhere", "--depth", "1", "--out", "x"], "there are no runs in"),
        (["inherit", "--teacher", "sample:scenes", "--depth", "1", "--out", "x", "--figure", "x.gif"], "'.gif'"),
        (["calibrate", "--out", "taken.toml"], "exists already"),
        (["teacher", "import", "sample:scenes", "--out", "taken"], "exists already"),
        (["teacher", "import", "sample:scnes"], "did you mean 'scenes'"),
        (["teacher", "train", "--out", "taken"], "exists already"),
        (["data", "samples", "scenes", "--out", "here"], "exists already"),
    ],
)
def test_it_is_refused_before_torch_is_imported(tmp_path: Path, command: list[str], words: str) -> None:
    for folder in ("taken", "here/train"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").touch()
    (tmp_path / "taken.toml").touch()
    program = (
        "import sys; from workbench.cli.app import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert words in done.stderr
