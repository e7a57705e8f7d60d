import json
from pathlib import Path

import pytest
from rich.console import Console

from workbench.cli import output
from workbench.config.toml import load_recipe, load_run_config
from workbench.runs.directory import create_run


def test_it_writes_a_recipe_that_gives_the_chosen_shares(workbench, tiny_recipe: str) -> None:
    result = workbench("calibrate", "--recipe", tiny_recipe, "--share", "fd=0.4", "--json")
    document = json.loads(result.out)
    assert document["file"] == "tiny-calibrated.toml"
    shares = {loss["name"]: loss["proposed"]["share"] for loss in document["losses"]}
    assert shares == pytest.approx({"clip": 0.2, "crd": 0.2, "fd": 0.4, "icl": 0.2}, rel=1e-3)
    config = load_recipe("tiny-calibrated.toml")
    for loss in document["losses"]:
        assert config.loss[loss["name"]].weight == loss["proposed"]["weight"]
        assert config.loss[loss["name"]].weight_at == "here"
    again = json.loads(workbench("calibrate", "--recipe", "tiny-calibrated.toml", "--out", "again.toml", "--json").out)
    assert {loss["name"]: loss["recipe"]["share"] for loss in again["losses"]} == pytest.approx(shares)


def test_the_recipe_records_its_source_and_keeps_overrides(workbench, tiny_recipe: str) -> None:
    Path("mine").mkdir()
    arguments = ["--set", "train.batch_size=30", "--set", "loss.icl.scale=20", "--out", "mine/one.toml"]
    assert workbench("calibrate", "--recipe", tiny_recipe, *arguments, "--batches", "1").code == 0
    text = Path("mine/one.toml").read_text()
    assert text.startswith("# Made by: workbench calibrate --recipe ")
    assert 'extends = "../tiny.toml"' in text
    config = load_recipe("mine/one.toml")
    assert (config.train.batch_size, config.train.num_steps) == (30, 12)
    assert config.loss["icl"].options() == {"scale": 20}
    assert config.question == "What if the losses' gradient shares are clip 25%, crd 25%, fd 25%, icl 25%?"


def test_a_schedule_is_written_as_one(workbench, tiny_recipe: str) -> None:
    ramp = "loss.fd.weight={value = 2.0, ramp_steps = 6}"
    assert workbench("calibrate", "--recipe", tiny_recipe, "--set", ramp, "--batches", "1").code == 0
    weight = load_recipe("tiny-calibrated.toml").loss["fd"].weight
    assert weight.ramp_steps == 6
    assert weight.value != 2


def test_the_table_shows_published_and_proposed_weights(workbench, tiny_recipe: str) -> None:
    out = workbench("calibrate", "--recipe", tiny_recipe, "--batches", "1").out
    assert "published" in out
    assert "3.906" in out  # fd's, in the paper's convention
    assert "25.0%" in out
    assert "workbench train --recipe tiny-calibrated.toml" in out


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--share", "fdd=0.3"], "did you mean 'fd'?"),
        (["--share", "fd"], "write it as LOSS=SHARE"),
        (["--share", "fd=x"], "write it as LOSS=SHARE"),
        (["--share", "fd=1.5"], "below 1"),
        (["--set", "teacher.model="], "name one with --set teacher.model"),
        (["--out", "tiny.toml"], "exists already: name another with --out FILE"),
        (["--out", "tiny"], "must end in .toml"),
        (["--out", "nowhere/tiny.toml"], "name another with --out FILE"),
    ],
)
def test_bad_input_is_one_line_with_the_remedy(workbench, tiny_recipe: str, arguments: list[str], remedy: str) -> None:
    before = set(Path().iterdir())
    result = workbench("calibrate", "--recipe", tiny_recipe, *arguments)
    assert result.code == 2
    assert remedy in result.err
    assert result.err.count("\n") == 1
    assert set(Path().iterdir()) == before


def test_calibrated_training_uses_and_prints_the_weights(workbench, tiny_recipe: str) -> None:
    result = workbench("train", "--recipe", tiny_recipe, "--calibrate", "--name", "one")
    assert result.code == 0
    proposed = json.loads(workbench("calibrate", "--recipe", tiny_recipe, "--json").out)["losses"]
    weights = {loss["name"]: loss["proposed"]["weight"] for loss in proposed}
    said = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
    assert f"calibrated to equal shares of the gradient: {said}\n" in result.err
    config = load_run_config(Path("runs/one/run.toml"))
    assert {name: loss.weight for name, loss in config.loss.items()} == weights
    assert {loss.weight_at for loss in config.loss.values()} == {"here"}


def test_a_run_that_cannot_be_is_refused_before_anything_is_measured(
    workbench, tiny_recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.preflight.calibrate.calibrate", lambda *_, **__: pytest.fail("it was measured"))
    create_run(Path("runs"), "one", "")
    Path("file").touch()
    for arguments, remedy in ((["--name", "one"], "choose another --name"), (["--runs", "file"], "--runs DIR")):
        result = workbench("train", "--recipe", tiny_recipe, "--calibrate", *arguments)
        assert result.code == 2
        assert remedy in result.err


def test_a_single_loss_cannot_be_calibrated(workbench, tiny_recipe: str) -> None:
    off = [argument for name in ("crd", "fd", "icl") for argument in ("--set", f"loss.{name}.weight=0")]
    result = workbench("train", "--recipe", tiny_recipe, *off, "--calibrate")
    assert result.code == 2
    assert "single loss (clip)" in result.err
    assert not Path("runs").exists()


@pytest.fixture
def healthy_recipe(tiny_recipe: str) -> list[str]:
    """The tiny run with a teacher that knows its pictures."""
    return ["--recipe", tiny_recipe, "--set", "teacher.model=sample:scenes", "--set", "teacher.chunk_size=20"]


def test_the_machine_alone(workbench) -> None:
    result = workbench("doctor")
    assert "device" in result.out
    assert "torch" in result.out
    document = json.loads(workbench("doctor", "--json").out)
    assert document["recipe"] is document["forecast"] is None
    assert document["machine"]["device"] in ("cpu", "cuda")
    assert {"check", "level", "message", "remedy"} == set(document["findings"][0])
    assert not Path("runs").exists()


def test_a_run_with_warnings_is_no_failure(
    workbench, healthy_recipe: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "console", Console(width=80, highlight=False))
    result = workbench("doctor", *healthy_recipe)
    assert result.code == 0
    assert "WARNING  warm-up" in result.out
    assert "-> --set optimizer.warmup_fraction=0.167" in result.out
    assert max(map(len, result.out.splitlines()[1:])) <= 80
    assert "taking a few steps" in result.err
    assert sorted(path.name for path in Path().iterdir()) == ["tiny.toml"]


def test_json_is_one_document_and_a_problem_is_status_1(workbench, tiny_recipe: str) -> None:
    result = workbench("doctor", "--recipe", tiny_recipe, "--json")  # its teacher has random weights
    document = json.loads(result.out)
    assert result.code == 1
    assert "teacher" in [finding["check"] for finding in document["findings"] if finding["level"] == "problem"]
    assert document["forecast"]["total_s"] > 0
    assert document["forecast"]["num_steps"] == 12


def test_a_trial_beyond_the_bound_is_left_out_and_the_run_estimated(workbench, healthy_recipe: list[str]) -> None:
    result = workbench("doctor", *healthy_recipe, "--max-time", "0.0001", "--json")
    document = json.loads(result.out)
    assert document["forecast"] is None
    assert document["estimate"]["total_s"] > document["estimate"]["step_s"] > 0
    assert document["estimate"]["trial_s"] > 0.0001
    (found,) = [finding for finding in document["findings"] if finding["check"] == "time"]
    assert "12 steps of 20 pairs" in found["message"]
    assert "--max-time 0" in found["remedy"]
    assert "taking a few steps" not in result.err
    assert json.loads(workbench("doctor", *healthy_recipe, "--json").out)["estimate"] is None


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--set", "train.num_steps=3"], "name one with --recipe"),
        (["--recipe", "clip-kdd"], "did you mean 'clip-kd'?"),
        (["--recipe", "tiny.toml", "--set", "train.batch_size=500"], "lower train.batch_size"),
        (["--recipe", "tiny.toml", "--set", "teacher.model="], "name one with --set teacher.model"),
    ],
)
@pytest.mark.usefixtures("tiny_recipe")
def test_a_bad_setup_is_one_line_with_the_remedy(workbench, arguments: list[str], remedy: str) -> None:
    result = workbench("doctor", *arguments)
    assert result.code == 2
    assert remedy in result.err.splitlines()[-1]
    assert not result.out
