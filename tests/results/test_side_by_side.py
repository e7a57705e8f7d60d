"""A study of several sweeps: what they share, against numbers that the tests choose."""

import json
import re
import sys
from pathlib import Path

import pytest

from workbench.cli.app import main
from workbench.results.side_by_side import cpu_s, same_verdicts, shared_findings, side_by_side, to_last
from workbench.results.write_sweeps import sweeps_document, write_side_by_side
from workbench.runs.studies import load_study

STUDY = """
question = "Does it last?"
recipe = "fd"
steps = 80
seeds = 3
baseline = "0"
[grid]
loss.fd.weight = [0, 10, 100, 1000, 2000]
[paper]
source = "A paper, Table 1"
[paper.cells]
0 = { image_to_text_r1 = 31.0 }
10 = { image_to_text_r1 = 33.0 }
100 = { image_to_text_r1 = 35.0 }
1000 = { image_to_text_r1 = 36.0 }
2000 = { image_to_text_r1 = 37.0 }
[[sweeps]]
name = "short"
steps = 40
[[sweeps]]
name = "mine"
[[sweeps]]
name = "unstarted"
steps = 160
"""
# Short training has the paper's order reversed at its ends; "10" is better in one sweep and worse in the other.
SHORT = {"0": 0.20, "10": 0.14, "100": 0.17, "1000": 0.30, "2000": 0.26}
LONG = {"0": 0.30, "10": 0.35, "100": 0.40, "1000": 0.45, "2000": 0.50}


@pytest.fixture
def study(record, study_file):
    """Two of the three sweeps, with a spread of a tenth of a point over seeds."""
    several = load_study(study_file(STUDY))
    short, own, _ = several.parts()
    for part, means in ((short, SHORT), (own, LONG)):
        for cell, mean in means.items():
            for seed in range(3):
                noise = 0.001 * ((seed * len(cell)) % 3 - 1)
                record(part, cell, seed, {"image_to_text_r1": mean + noise})
    return several


def test_the_order_is_compared_with_the_papers_and_with_the_last(study):
    side = side_by_side(study, Path("runs"), "mine.toml")
    assert list(side.by_name) == ["short", "mine"]
    short, own = (report.agreement["image_to_text_r1"] for report in side.reports)
    assert own.tau == 1
    assert short.tau == pytest.approx(0.4)  # 7 of 10 pairs of cells are in order
    assert to_last(side)["short"]["image_to_text_r1"].tau == pytest.approx(0.4)
    # 8 s a cohort on two threads, and the sweep of 80 steps has the faster pace.
    assert cpu_s(side) == {"short": pytest.approx(8.0), "mine": pytest.approx(16.0)}
    assert "mine +1.00 (+1.00 to +1.00). They agree from mine on." in "\n".join(shared_findings(side))


def test_verdicts_are_the_same_different_or_open(study):
    side = side_by_side(study, Path("runs"))
    assert same_verdicts(side, "image_to_text_r1") == {"10": False, "100": False, "1000": True, "2000": True}
    assert any("4 verdicts 2 are the same in all sweeps, 2 differ (10, 100)" in line for line in shared_findings(side))


def test_the_report_has_a_table_for_sweeps_and_one_for_verdicts(study):
    files = write_side_by_side(side_by_side(study, Path("runs"), "mine.toml"), Path("out"), ("md", "svg"))
    assert {path.name for path in files} == {"report.md", "agreement.svg", "differences.svg"}
    text = Path("out/report.md").read_text()
    assert "(agreement.svg)" in text
    assert re.search(r"\| short \| 1000 of samples:scenes \| 40 \| 8 s \| \+0\.40 \(", text)
    assert re.search(r"\| 10 \| worse: .6\.0 .* \| better: \+5\.0 .* \| no \|", text)
    assert "workbench sweep --study mine.toml\nworkbench report mine.toml\n" in text
    document = sweeps_document(side_by_side(study, Path("runs")))
    assert [one["study"] for one in json.loads(json.dumps(document))["sweeps"]] == ["short", "mine"]


@pytest.mark.usefixtures("study")
def test_all_reports_have_one_for_the_study_and_none_for_its_sweeps(capsys, monkeypatch):
    Path("mine.toml").write_text(STUDY[: STUDY.index('[[sweeps]]\nname = "unstarted"')])
    monkeypatch.setattr(sys, "argv", ["workbench", "report", "--all", "--out", "out", "--format", "md"])
    with pytest.raises(SystemExit):
        main()
    assert {path.name for path in Path("out").iterdir()} == {"README.md", "answers.json", "mine"}
    index = Path("out/README.md").read_text()
    assert "| [mine](#mine) | Does it last? | 30 | 40, 80 |" in index
    assert "4 verdicts 2 are the same in all sweeps" in index
    assert "short" not in capsys.readouterr().err


@pytest.mark.usefixtures("study")
def test_the_command_reports_all_sweeps_or_one(capsys, monkeypatch):
    def command(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["workbench", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    assert command("report", "mine.toml", "--out", "out", "--format", "md") == 0
    assert "out/report.md" in capsys.readouterr().out
    assert command("report", "mine.toml", "--name", "short", "--json") == 0
    assert json.loads(capsys.readouterr().out)["study"] == "short"
    assert command("report", "mine.toml", "--name", "shrot") == 2
    assert "did you mean 'short'" in capsys.readouterr().err
    assert command("report", "mine.toml", "--runs", "nowhere") == 2
    assert "workbench sweep --study mine.toml" in capsys.readouterr().err
