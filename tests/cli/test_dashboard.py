import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from workbench.cli.app import app
from workbench.events import RunFinished, RunStarted
from workbench.runs.directory import create_run
from workbench.runs.log import EventLog


def test_help_has_examples(workbench) -> None:
    done = workbench("notebook", "--help")
    assert done.code == 0
    assert "workbench notebook --copy" in done.out


def test_a_file_in_the_way_is_one_line(workbench, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    done = workbench("notebook", "--copy", "taken")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "taken" in done.err


ORIGIN = '[sweep]\nstudy = "mine"\ncell = "a"\nseed = 0\ntrial = 0\n'


@pytest.fixture
def runs(tmp_path):
    for name, table in (("one", ""), ("two", ORIGIN)):
        run = create_run(tmp_path / "runs", name, f'recipe = "clip-kd"\nseed = 0\n{table}')
        log = EventLog(run.events_file)
        log.append(
            RunStarted(
                run=name,
                step=0,
                num_steps=10,
                batch_size=2,
                num_pairs=4,
                num_parameters=1,
                num_embedding_parameters=1,
                host="h",
                pid=1,
            )
        )
        log.append(RunFinished(run=name, step=10, state="finished", elapsed_s=1.0))
    return tmp_path / "runs"


def call(*arguments: object):
    return CliRunner().invoke(app, ["tui", *map(str, arguments)])


def test_once_prints_every_run_and_returns(runs) -> None:
    said = call("--runs", runs, "--once")
    assert said.exit_code == 0
    assert [line.split()[:2] for line in said.stdout.splitlines()[1:] if line.strip()] != []
    assert "one" in said.stdout
    assert "two" in said.stdout
    assert "\x1b[?" not in said.stdout


def test_once_of_a_run_or_a_study_shows_only_these(runs) -> None:
    for name in ("two", "mine"):
        document = json.loads(call(name, "--runs", runs, "--once", "--json").stdout)
        assert [run["id"] for run in document["runs"]] == ["two"]
        assert document["runs"][0]["study"] == "mine"


def test_what_is_neither_a_run_nor_a_study_is_named(runs) -> None:
    said = call("ona", "--runs", runs, "--once")
    assert isinstance(said.exception, ValueError)
    assert "one" in str(said.exception)


def test_without_a_terminal_the_remedy_is_printed(runs) -> None:
    said = call("--runs", runs)
    assert isinstance(said.exception, ValueError)
    assert "--once" in str(said.exception)
