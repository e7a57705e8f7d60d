import json
from pathlib import Path

import pytest
import torch

from workbench.bench.contest import Bench, Row
from workbench.cli.bench import _benches, app

SMALL = ("bench", "losses", "--batch", "8", "--batch", "4", "--dim", "6")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few turns each: these tests ask what is printed, not how long it takes."""
    monkeypatch.setattr("workbench.bench.contest.ENOUGH_REPEATS", 2)


def test_losses_are_measured_at_growing_batches(workbench) -> None:
    result = workbench(*SMALL, "--case", "mixture", "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert {"torch", "num_threads", "device"} <= document["machine"].keys()
    assert document["dim"] == 6
    forms = [(row["case"], row["size"]) for row in document["rows"]]
    assert forms[:2] == [("mixture, dense", 4), ("mixture, chunked 1", 4)]
    assert forms[2:] == [("mixture, dense", 8), ("mixture, chunked 2", 8)]
    for row in document["rows"]:
        assert row.keys() == {"case", "size", "time_s", "peak_mb", "ratio", "floor_ratio", "share", "pairs_per_s"}
        assert row["time_s"] > 0
        assert row["ratio"] > 0
        assert row["floor_ratio"] > 0


def test_what_is_not_measured_is_null(workbench) -> None:
    document = json.loads(workbench(*SMALL, "--case", "fd", "--straightforward-up-to", "4", "--json").out)
    assert [row["floor_ratio"] for row in document["rows"]] == [None] * 4
    assert [row["ratio"] is None for row in document["rows"]] == [False, False, True, True]


def test_the_table_goes_to_stdout_and_progress_to_stderr(workbench) -> None:
    result = workbench(*SMALL, "--case", "clip")
    assert "clip, chunked 2" in result.out
    assert "times faster" in result.out
    assert "pairs/s" not in result.out  # a column that would be empty
    assert result.err.splitlines() == ["losses, clip, B = 4", "losses, clip, B = 8"]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--batch", "1"], "--batch must be at least 2"),
        (["--dim", "0"], "--dim must be at least 1"),
        (["--case", "mixtur"], "did you mean 'mixture'"),
        (["--device", "gpu"], "unknown device"),
    ],
)
def test_bad_input_is_one_line(workbench, arguments: list[str], remedy: str) -> None:
    result = workbench("bench", "losses", *arguments)
    assert result.code == 2
    assert remedy in result.err
    assert len(result.err.splitlines()) == 1
    assert result.out == ""


@pytest.mark.parametrize("command", [("bench", "step"), ("doctor",)])
def test_a_run_without_steps_has_none_to_measure(workbench, tiny_recipe: str, command: tuple[str, ...]) -> None:
    result = workbench(*command, "--recipe", tiny_recipe, "--set", "train.num_steps=0")
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert "--set train.num_steps=N" in result.err


def test_help_shows_examples(workbench) -> None:
    assert "workbench bench losses --case mixture --batch 8192" in workbench("bench", "losses", "--help").out


def test_a_step_is_split_into_parts_and_traced(workbench, tiny_recipe: str) -> None:
    result = workbench("bench", "step", "--recipe", tiny_recipe, "--trace", "step.json")
    assert result.code == 0, result.err
    for part in (
        "batch, prepared",
        "teacher",
        "student backward",
        "update",
        "whole step",
        "heaviest operators",
        "step.json",
    ):
        assert part in result.out
    names = {event.get("name") for event in json.loads(Path("step.json").read_text())["traceEvents"]}
    assert {"batch", "teacher", "student forward", "losses", "student backward", "update"} <= names


def test_a_step_as_json_is_one_document(workbench, tiny_recipe: str) -> None:
    result = workbench("bench", "step", "--recipe", tiny_recipe, "--set", "data.prepare=off", "--json")
    document = json.loads(result.out)
    assert document.keys() == {"machine", "recipe", "clock", "rows"}
    assert [row["case"] for row in document["rows"]][:2] == ["batch, live", "batch"]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `bench all` would measure, without measuring it."""
    rows = {
        "peer": [Row("workbench, prepared pictures", 128, 0.5, ratio=1.5, pairs_per_s=256.0)],
        "step": [Row("bare loop", 100, 1.0, 40.0, 1.05, 2.0)],
    }
    benches = {name: Bench({name: lambda name=name: rows[name]}, f"what {name} means", "wall") for name in rows}
    monkeypatch.setattr("workbench.cli.bench._benches", lambda _device: benches)


@pytest.mark.usefixtures("found")
def test_all_benchmarks_are_printed_and_then_the_goals(workbench) -> None:
    result = workbench("bench", "all")
    assert result.code == 0, result.err
    *tables, heading, live, engine = result.out.splitlines()
    assert heading.split() == ["goal", "wanted", "measured"]
    assert live.split()[-5:] == ["at", "least", "1.30", "1.50", "reached"]
    assert engine.split()[-5:] == ["at", "most", "1.03", "1.05", "missed"]
    assert "what step means" in tables
    assert result.err.splitlines() == ["peer", "step"]


@pytest.mark.usefixtures("found")
def test_all_benches_are_one_document(workbench) -> None:
    document = json.loads(workbench("bench", "all", "--json").out)
    assert document.keys() == {"machine", "date", "goals", "rows"}
    assert [goal["is_reached"] for goal in document["goals"]] == [True, False]
    assert [(row["bench"], row["ratio"]) for row in document["rows"]] == [("peer", 1.5), ("step", 1.05)]


def test_every_bench_is_among_them_all() -> None:
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(_benches(torch.device("cpu"))) == commands - {"all", "gpu"}  # gpu needs one


def test_a_cohort_is_measured(workbench) -> None:
    result = workbench("bench", "cohort", "--members", "2", "--batch", "2", "--device", "cpu", "--json")
    document = json.loads(result.out)
    assert document["num_members"] == 2
    assert document["rows"][-1]["case"] == "2 members, one cohort"


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["step", "--recipe", "clip-kdd"], "did you mean"),
        (["step", "--set", "train.batch=2"], "did you mean 'batch_size'"),
        (["step", "--set", "train.micro_batch_size=2"], "set train.micro_batch_size=0"),
        (["step", "--trace", "nowhere/step.json"], "name a file in an existing folder"),
        (["step", "--trace", "step.txt"], "step.txt.json"),
        (["cohort", "--members", "1"], "--members must be at least 2"),
        (["peer", "--batch", "1"], "--batch must be at least 2"),
        (["peer", "--workers", "-1"], "--workers must be at least 0"),
        (["peer", "--turns", "0"], "--turns must be at least 1"),
    ],
)
def test_what_cannot_be_measured_is_one_line(workbench, arguments: list[str], remedy: str) -> None:
    result = workbench("bench", *arguments)
    assert result.code == 2
    assert remedy in result.err
    assert len(result.err.splitlines()) == 1
    assert result.out == ""


def test_a_peer_that_is_not_installed_is_named(workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.bench.peer.find_spec", lambda _package: None)
    result = workbench("bench", "peer")
    assert result.code == 2
    assert "pip install 'clip-distillation-workbench[peer]'" in result.err
