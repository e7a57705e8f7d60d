"""Every study that ships, rehearsed: all of its runs, and a report of them."""

import json
import sys
from pathlib import Path

import pytest

from workbench.cli.app import main
from workbench.runs.studies import load_study, studies

# Studies of several sweeps repeat the cells of others: one of them stands for all.
REHEARSED = sorted(name for name in studies() if not load_study(name).sweeps or name == "carry_one_loss")


@pytest.mark.slow
@pytest.mark.parametrize("name", REHEARSED)
def test_every_study_runs_at_quick_and_has_a_report(name, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments in (["sweep", "--study", name], ["report", name, "--out", "r"]):
        monkeypatch.setattr(sys, "argv", ["workbench", *arguments, "--quick", "--json"])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
    document = json.loads(capsys.readouterr().out)
    study = load_study(name).quick()
    for part in document.get("sweeps", [document]):
        by_name = {cell["name"]: cell for cell in part["cells"]}
        states = {cell["state"] for cell in by_name.values()}
        assert states <= ({"finished", "missing"} if study.search else {"finished"})
        assert all(set(cell["seeds"]) == {"0", "1"} for cell in by_name.values())
        for cell, figures in (study.paper.cells if study.paper else {}).items():  # all that the paper has is measured
            unmeasured = figures.keys() - by_name[cell]["metrics"].keys()
            assert not unmeasured, f"{cell}: {unmeasured}"
    assert (tmp_path / "r" / "report.md").stat().st_size > 1000
    if study.search:
        assert document["confirmed"]["cells"]
