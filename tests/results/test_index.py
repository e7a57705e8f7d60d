"""Many reports in one folder: their index, hand-written findings, and the output of `workbench studies`."""

import json
import sys
from pathlib import Path

import pytest

from workbench.cli.app import main
from workbench.results.answers import Difference, is_answered, read_answers, short_answer
from workbench.results.index import verdict_text, write_results
from workbench.results.report import report_on
from workbench.results.words import confirmation_lines, progress
from workbench.runs.studies import load_study

STUDIES = {"mine": "0 and 10?", "other": "0 and 100?"}
STUDY = """
question = "{question}"
recipe = "fd"
seeds = 2
baseline = "0"
[grid]
loss.fd.weight = [0, {weight}]
"""


@pytest.fixture
def run_studies(record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two studies of the working directory with every run; ``unfinished`` names a state for the last of "other"."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()

    def run(unfinished: str = "finished") -> None:
        for weight, (name, question) in zip((10, 100), STUDIES.items(), strict=True):
            Path(f"studies/{name}.toml").write_text(STUDY.format(question=question, weight=weight))
            study = load_study(name)
            for cell in ("0", str(weight)):
                for seed in (0, 1):
                    is_last = (name, cell, seed) == ("other", "100", 1)
                    state = unfinished if is_last else "finished"
                    value = 0.3 + 0.1 * (cell != "0") + 0.001 * seed * len(cell)
                    record(study, cell, seed, {"image_to_text_r1": value}, state=state)

    return run


def command(*arguments: str) -> int:
    sys.argv = ["workbench", *arguments]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(autouse=True)
def _arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_command_writes_every_report_and_an_index_and_again_the_same_bytes(run_studies, capsys):
    run_studies()
    few = ("--format", "md", "--format", "csv")
    assert command("report", "--all", "--out", "studies/results", *few) == 0
    first = tree(Path("studies/results"))
    assert set(first) == {"README.md", "answers.json"} | {
        f"{name}/{file}" for name in STUDIES for file in ("report.md", "cells.csv", "runs.csv")
    }
    index = first["README.md"].decode()
    assert "| [mine](#mine) | 0 and 10? | 4 | 80 |" in index
    assert "better than 0: 10 (+10." in index
    assert "(other/report.md)" in index
    assert command("report", "--all", "--out", "studies/results", *few) == 0
    assert tree(Path("studies/results")) == first
    assert not any(str(Path.cwd()).encode() in content for content in first.values())

    capsys.readouterr()
    assert command("studies", "--json") == 0
    documents = {one["name"]: one for one in json.loads(capsys.readouterr().out)["studies"]}
    assert "better than 0: 100 (+10." in documents["other"]["answer"]
    assert documents["fd_weight"]["answer"] is None  # this folder's results hide those that ship
    assert command("studies") == 0
    assert "answered" in capsys.readouterr().out


def test_unfinished_runs_are_left_out_and_listed(run_studies, capsys):
    run_studies(unfinished="running")
    assert command("report", "--all", "--out", "there", "--format", "md") == 0
    captured = capsys.readouterr()
    assert "skipped other, which is not finished: 4 runs: 3 finished, 1 dead" in " ".join(captured.err.split())
    assert set(read_answers(Path("there"))) == {"mine"}
    assert command("report", "--all", "--json") == 0
    assert [one["study"] for one in json.loads(capsys.readouterr().out)["reports"]] == ["mine"]


def test_a_run_that_diverged_is_an_end_too(run_studies):
    run_studies(unfinished="diverged")
    assert is_answered(report_on(load_study("other"), "other", Path("runs")))


def test_the_index_keeps_what_other_folders_of_runs_have_answered(run_studies):
    run_studies()
    reports = [report_on(load_study(name), name, Path("runs")) for name in STUDIES]
    write_results(reports[:1], Path("out"), ["md"])
    write_results(reports[1:], Path("out"), ["md"])
    one_by_one = tree(Path("out"))
    write_results(reports, Path("all"), ["md"])
    assert tree(Path("all")) == one_by_one


def test_what_a_person_wrote_comes_first(run_studies):
    run_studies()
    folder = Path("out")
    (folder / "mine").mkdir(parents=True)
    (folder / "mine" / "finding.md").write_text("Ten is better,\nby a lot.\n\nThe rest is detail.\n")
    write_results([report_on(load_study("mine"), "mine", Path("runs"))], folder, ["md"])
    assert "Ten is better,\nby a lot.\n\nThe rest is detail.\n" in (folder / "README.md").read_text()
    assert short_answer(folder, "mine", read_answers(folder)["mine"]) == "Ten is better, by a lot."


def test_the_index_alone_is_written_again_from_its_answers(run_studies):
    run_studies()
    reports = [report_on(load_study(name), name, Path("runs")) for name in STUDIES]
    write_results(reports, Path("out"), ["md"])
    first = tree(Path("out"))
    Path("out/README.md").unlink()
    assert command("report", "--all", "--runs", "nowhere", "--out", "out", "--format", "md") == 0
    assert tree(Path("out")) == first


def test_the_index_opens_with_every_verdict_and_the_agreement_with_published_orders(record, study_file):
    study = load_study(study_file())
    values = {"0": (0.30, 0.31, 0.29), "10": (0.302, 0.311, 0.291), "100": (0.34, 0.30, 0.33), "1000": (0.5, 0.51, 0.5)}
    for cell, of in values.items():
        for seed, value in enumerate(of):
            record(study, cell, seed, {"image_to_text_r1": value})
    report = report_on(study, "mine", Path("runs"))
    files = write_results([report], Path("out"), ["md", "svg"])
    assert Path("out/agreement.svg") in files
    index = Path("out/README.md").read_text()
    assert index.index("(agreement.svg)") < index.index("## Verdicts") < index.index("## mine")
    (line,) = [line for line in index.splitlines() if "| 1000 against 0 | 80 | 3 |" in line]
    entry = report.table.entries["1000"]["image_to_text_r1"]
    low, high = (f"{100 * bound:+.1f}".replace("-", "\N{MINUS SIGN}") for bound in (entry.gain.low, entry.gain.high))
    assert f"better: +20.3 ({low} to {high}); paper +" in line
    (answer,) = read_answers(Path("out")).values()
    assert answer.agreement == report.agreement
    by_cell = {one.cell: one for one in answer.differences}
    assert {cell: one.verdict for cell, one in by_cell.items()} == {"10": "open", "100": "open", "1000": "better"}
    assert all(one.seeds_needed and one.seeds_needed > 3 for one in by_cell.values() if one.verdict == "open")


@pytest.mark.parametrize(
    ("verdict", "more", "text"),
    [
        ("better", {"paper": 1.5}, "better: +2.0 (+1.0 to +3.0); paper +"),
        ("worse", {"paper": -1.5}, "worse: +2.0 (+1.0 to +3.0); paper \N{MINUS SIGN}"),
        ("equivalent", {"margin": 0.025, "paper": 0.0}, "equivalent within 2.5: +2.0 (+1.0 to +3.0); paper 0"),
        ("open", {"seeds_needed": 12}, "open, about 12 seeds: +2.0 (+1.0 to +3.0)"),
        ("open", {}, "open, over 1,000 seeds: +2.0 (+1.0 to +3.0)"),
        ("not enough seeds", {"low": None, "high": None}, "not enough seeds: +2.0"),
    ],
)
def test_a_verdict_has_its_bound_or_the_seeds_that_would_decide(verdict, more, text):
    about = {"cell": "a", "against": "b", "metric": "image_to_text_r1", "num_seeds": 3, "mean": 0.02}
    assert verdict_text(Difference(**about | {"low": 0.01, "high": 0.03} | more, verdict=verdict)) == text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report"], "name a study"),
        (["report", "mine", "--all"], "--all reports every study: drop STUDY"),
        (["report", "--all", "--quick"], "--all reports every study"),
        (["report", "--all", "--runs", "nowhere"], "nowhere has no finished study"),
        (["report", "--all", "--out", "broken"], "broken/answers.json is not an index of reports"),
        (["report", "--all", "--out", "studies/mine.toml"], "name another with --out DIR"),
    ],
)
def test_a_slip_is_one_line_and_status_2(run_studies, capsys, arguments, said):
    run_studies()
    Path("broken").mkdir()
    Path("broken/answers.json").write_text('{"mine": {"question"')
    assert command(*arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


SEARCH = """
question = "Which?"
recipe = "fd"
seeds = 2
trials = 2
warm_start = ["fd"]
against = ["baseline"]
confirm_seeds = 2
[search]
loss.fd.weight = { low = 10.0, high = 3000.0, log = true }
"""


def test_a_search_is_answered_once_its_best_is_confirmed_with_fresh_seeds(record, study_file):
    study = load_study(study_file(SEARCH))
    for trial, weight in enumerate((2000.0, 900.0)):
        for seed in (0, 1):
            metrics = {"image_to_text_r1": 0.3 + 0.05 * trial + 0.001 * seed}
            record(study, f"t{trial:04d}", seed, metrics, values={"loss.fd.weight": weight}, trial=trial)
    report = report_on(study, "mine", Path("runs"))
    assert report.confirmed is None
    assert not is_answered(report)
    for number, (cell, value) in enumerate({"baseline": 0.2, "fd": 0.31, "t0001": 0.33}.items()):
        for seed, luck in ((2, 0.0), (3, 0.002 * number)):
            metrics = {"image_to_text_r1": value + luck}
            record(study, cell, seed, metrics, values={}, trial=number, name="mine-best-of-2")
    record(study, "t0000", 2, {"image_to_text_r1": 0.1}, values={}, trial=0, name="mine-best-of-1")  # an earlier one
    report = report_on(study, "mine", Path("runs"))
    assert is_answered(report)
    lines = list(confirmation_lines(report))
    assert [line.split(":")[0] for line in lines] == [
        "image→text R@1 on 2 held-out seeds",
        "image→text R@1 on 2 held-out seeds",
    ]
    assert "t0001 against baseline +13.2" in lines[0]
    assert lines[0].endswith("better.")
    assert "t0001 against fd +2.1" in lines[1]
    assert [seed.seed for seed in report.confirmed.table.cells[0].replicates] == [2, 3]


def test_what_racing_dropped_is_not_missing_once_the_search_is_over(record, study_file):
    study = load_study(study_file(SEARCH.replace("trials = 2", 'trials = 2\npruner = "racing"')))
    for trial, seeds in enumerate(((0, 1), (0,))):
        for seed in seeds:
            record(
                study, f"t{trial:04d}", seed, {"image_to_text_r1": 0.3}, values={"loss.fd.weight": 20.0}, trial=trial
            )
    assert progress(report_on(study, "mine", Path("runs")).table.cells) == "4 runs: 3 finished, 1 missing"
    record(study, "t0000", 2, {"image_to_text_r1": 0.3}, values={}, trial=0, name="mine-best-of-2")
    assert progress(report_on(study, "mine", Path("runs")).table.cells) == "4 runs: 3 finished, 1 dropped"
