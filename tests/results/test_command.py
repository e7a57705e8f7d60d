"""``workbench report``: what a person sees, and what stands on the disk afterwards."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from workbench.cli import output
from workbench.cli import report as command
from workbench.runs.studies import load_study, save_copy

VALUES = {"0": 0.30, "10": 0.305, "100": 0.36, "1000": 0.38}


@pytest.fixture
def report(command_line: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, record, study_file) -> Callable[..., Any]:
    """``report("mine.toml", "--json")`` where that study has run, but for the last cell's last seed."""
    monkeypatch.setattr(output, "console", Console(highlight=False, width=200))
    study = load_study(study_file())
    for cell, value in VALUES.items():
        for seed, luck in enumerate((0.0, -0.02, 0.03)):
            state = "running" if (cell, seed) == ("1000", 2) else "finished"
            metrics = {"image_to_text_r1": value + luck + 0.001 * len(cell) * seed}
            record(study, cell, seed, metrics, state=state)

    return lambda *arguments: command_line("report", *arguments)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_prints_the_main_table_and_writes_the_rest(report):
    done = report("mine.toml")
    assert (done.code, done.err) == (0, "")
    assert "12 runs: 11 finished, 1 dead" in done.out
    assert "1000, seed 2: dead, step 50 of 80" in done.out
    assert re.search(r"better than 0: 10 \(\+0\.6\), 100 \(\+6\.2\), 1000 \(\+8\.\d\)\.", done.out)
    written = files(Path("reports/mine"))
    assert set(written) == {
        "report.md", "cells.csv", "runs.csv", "table.tex", "cells.png", "differences.png", "learning.png"
    }  # fmt: skip
    text = written["report.md"].decode()
    for name in ("cells.png", "differences.png", "learning.png"):
        assert f"]({name})" in text
    assert "workbench sweep --study mine.toml\n" in text


def test_equal_runs_give_equal_files_whatever_was_there(report):
    formats = [word for kind in ("md", "csv", "tex", "svg") for word in ("--format", kind)]
    assert report("mine.toml", "--out", "one", *formats).code == 0
    Path("two").mkdir()
    Path("two/report.md").write_text("an older one")
    assert report("mine.toml", "--out", "two", *formats).code == 0
    assert files(Path("one")) == files(Path("two"))
    assert len(files(Path("one"))) == 4 + 3


def test_json_is_alone_on_stdout_and_writes_only_where_it_is_told(report):
    done = report("mine.toml", "--json")
    document = json.loads(done.out)
    assert [cell["name"] for cell in document["cells"]] == list(VALUES)
    assert document["cells"][3]["seeds"] == {"0": "finished", "1": "finished", "2": "dead"}
    assert document["files"] == []
    assert not Path("reports").exists()
    again = json.loads(report("mine.toml", "--json", "--out", "there", "--format", "tex").out)
    assert again["files"] == ["there/table.tex"]
    assert list(files(Path("there"))) == ["table.tex"]


@pytest.mark.parametrize("columns", [40, 80, 140])
def test_it_fits_any_terminal(report, monkeypatch, columns):
    console = Console(highlight=False, width=columns)
    for module in (output, command):
        monkeypatch.setattr(module, "console", console)
    out = report("mine.toml", "--format", "tex").out
    assert max(map(len, out.splitlines())) <= columns
    assert "+6.2" in out.split("\n\n")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mien.toml"], "cannot read mien.toml"),
        (["mine.toml", "--latex"], "--format tex"),
        (["fd_wieght"], "did you mean 'fd_weight'"),
        (["mine.toml", "--format", "pgn"], "unknown format 'pgn': did you mean 'png'"),
        (["mine.toml", "--json", "--format", "md"], "needs --out DIR"),
        (["mine.toml", "--quick"], "runs has no run of study 'mine-quick' yet"),
        (["mine.toml", "--name", "other"], "start it with workbench sweep --study mine.toml --name other"),
        (["mine.toml", "--runs", "nowhere"], "nowhere has no run of study 'mine' yet"),
        (["mine.toml", "--out", "mine.toml"], "name another with --out DIR"),
        (["mine.toml", "--out", "mine.toml/deeper"], "name another with --out DIR"),
    ],
)
def test_a_slip_is_one_line_and_status_2(report, arguments, said):
    done = report(*arguments)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""


def test_a_damaged_log_and_a_damaged_config_are_left_out_not_fatal(report):
    Path("runs/mine-10-s0/events.jsonl").write_bytes(b"\xff\x00 torn\n{")
    Path("runs/mine-100-s0/run.toml").write_text("not = [toml")
    done = report("mine.toml", "--json")
    assert done.code == 0, done.err
    cells = {cell["name"]: cell for cell in json.loads(done.out)["cells"]}
    assert cells["10"]["seeds"]["0"] == "dead" or cells["10"]["seeds"]["0"] == "new"
    assert cells["100"]["seeds"]["0"] == "missing"


def test_a_full_disk_is_an_error_and_leaves_no_partial_file(report, monkeypatch):
    import errno
    import os

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        done = report("mine.toml", "--out", "there", "--format", "md")
    assert done.code == 2
    assert "there: disk full" in done.err
    assert files(Path("there")) == {}


def test_a_rehearsal_whose_file_has_moved_is_reported_by_its_studys_name(command_line, record, study_file) -> None:
    study = load_study(study_file()).quick()
    Path("mine.toml").unlink()
    record(study, "10", 0, {"image_to_text_r1": 0.3}, name="mine-quick")
    save_copy(study, "mine-quick", Path("runs"))
    for arguments in (["mine", "--quick"], ["mine-quick"], ["mine-quick", "--quick"]):
        done = command_line("report", *arguments, "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out)["cells"][1]["seeds"]["0"] == "finished"
    done = command_line("report", "mine")
    assert done.code == 2
    assert "no run of study 'mine' yet: only its rehearsal has, add --quick" in done.err


@pytest.mark.parametrize(
    "place", ["its file here", "its file in ./studies", "a copy beside the runs", "its runs alone"]
)
def test_a_study_of_ones_own_is_reported_by_its_name(report, command_line, place: str) -> None:
    whole = json.loads(report("mine.toml", "--json").out)
    if place == "a copy beside the runs":
        save_copy(load_study("mine.toml"), "mine", Path("runs"))
    if place == "its file in ./studies":
        Path("studies").mkdir()
        Path("mine.toml").rename("studies/mine.toml")
    elif place != "its file here":
        Path("mine.toml").unlink()
    done = report("mine", "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["cells"][0]["metrics"] == whole["cells"][0]["metrics"]
    assert [cell["name"] for cell in document["cells"]] == list(VALUES)
    assert ("the study's file" in report("mine").out) is (place == "its runs alone")
    listed = {one["name"] for one in json.loads(command_line("studies", "--json").out)["studies"]}
    assert {"mine", "icl_weight"} <= listed
    assert len(json.loads(command_line("tui", "mine", "--once", "--json").out)["runs"]) == 12
    offered = command_line("tui", "mnie", "--once")
    assert offered.code == 2
    assert "did you mean 'mine'" in offered.err


def test_every_study_that_has_run_is_reported_with_all(report, record) -> None:
    refused = report("--all", "--json")
    assert refused.code == 2
    assert "skipped mine, which is not finished: 12 runs: 11 finished" in refused.err
    study = load_study("mine.toml").model_copy(update={"name": "other"})
    for cell in VALUES:
        for seed in range(3):
            record(study, cell, seed, {"image_to_text_r1": 0.3})
    Path("mine.toml").rename("other.toml")
    document = json.loads(report("--all", "--json").out)
    assert [one["study"] for one in document["reports"]] == ["other"]
