"""From recorded runs to a report: every number against the runs it came from, every missing run said."""

import csv
import io
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from statistics import stdev

import pytest

from workbench.notebook.study_table import read_table
from workbench.results.export import cells_csv, document, grid, latex, latex_escape, runs_csv
from workbench.results.markdown import markdown
from workbench.results.report import StudyReport, report_on
from workbench.results.table import interpret_against
from workbench.results.words import findings, progress, troubles
from workbench.results.write import write_report
from workbench.runs.checkpoints import write_checkpoint
from workbench.runs.directory import RunDirectory
from workbench.runs.studies import load_study, save_copy
from workbench.runs.suites import SuiteResult, keep_result
from workbench.statistics.intervals import seed_gain
from workbench.tui.study.panes import report_text
from workbench.views.metrics import metric_label

VALUES = {
    "0": (0.300, 0.280, 0.330),
    "10": (0.305, 0.279, 0.331),
    "100": (0.360, 0.342, 0.388),
    "1000": (0.381, 0.360, 0.409),
}


@pytest.fixture
def study(study_file):
    return load_study(study_file())


@pytest.fixture
def fill(record, study):
    """``fill(unless)``: every run but those for which ``unless`` names another state; None leaves a run out."""

    def make(unless=lambda *_: "finished") -> StudyReport:
        for cell, values in VALUES.items():
            for seed, value in enumerate(values):
                state = unless(cell, seed)
                if state:
                    metrics = {"image_to_text_r1": value, "text_to_image_r1": value - 0.02, "cka": 0.7}
                    record(study, cell, seed, metrics, state=state)
        return report_on(study, "mine", Path("runs"), "mine.toml")

    return make


def test_every_cell_has_its_mean_interval_difference_and_verdict(fill):
    report = fill()
    (metric, _) = report.table.metrics
    entries = {cell.name: report.table.entry(cell, metric) for cell in report.table.cells}
    for cell, values in VALUES.items():
        assert entries[cell].mean.per_seed == pytest.approx(values)
        assert entries[cell].mean.covers == "seeds and items"
    assert entries["0"].gain is None
    expected = seed_gain(VALUES["0"], VALUES["1000"])
    assert entries["1000"].gain.per_seed == pytest.approx(expected.per_seed)
    assert [entries[cell].verdict for cell in VALUES] == ["", "equivalent", "better", "better"]
    assert entries["1000"].paper == 37
    assert entries["1000"].paper_gain == pytest.approx(6)
    assert report.best == "1000"
    assert report.agreement["image_to_text_r1"].tau == 1


def test_suites_measured_at_the_last_weights_are_columns(fill):
    fill()
    for run in Path("runs").iterdir():
        cell, seed = run.name.removeprefix("mine-").rsplit("-s", 1)
        # One seed of the last cell was trained further since its suite was measured.
        weights = "" if (cell, seed) != ("1000", "2") else "earlier"
        result = SuiteResult(
            suite="papers",
            name="ImageNet",
            task="zero-shot",
            data="x",
            identity="i",
            weights_sha256=weights,
            num_images=1000,
            metrics={"zero_shot_top1": VALUES[cell][int(seed)] / 2, "zero_shot_top5": 0.9},
            errors={"zero_shot_top1": 0.01},
        )
        keep_result(RunDirectory(run).suites, result)
    report = report_on(load_study("mine.toml"), "mine", Path("runs"), "mine.toml")
    metric = report.table.metrics[-1]
    assert [label.name for label in report.table.metrics[2:]] == ["ImageNet/zero_shot_top1"]
    entries = {cell.name: report.table.entry(cell, metric) for cell in report.table.cells}
    assert entries["100"].mean.per_seed == pytest.approx([value / 2 for value in VALUES["100"]])
    assert entries["100"].mean.covers == "seeds and items"
    assert entries["1000"].mean.per_seed == pytest.approx([value / 2 for value in VALUES["1000"][:2]])
    assert entries["100"].verdict == "better"
    assert "### ImageNet: zero-shot top-1 (%)" in markdown(report)


def test_figures_are_of_the_test_pairs_and_the_choice_is_of_the_validation_pairs(fill):
    report = fill()
    assert report.table.split == "test"
    cell = report.table.cells[0]
    assert cell.by_seed("image_to_text_r1")[0] == 0.3
    assert cell.by_seed("image_to_text_r1", validation=True)[0] == pytest.approx(0.98 * 0.3)


def test_a_running_study_is_reported_as_far_as_it_has_come(fill):
    states = {("10", 2): "diverged", ("100", 1): "running", ("100", 2): "", ("1000", 2): "failed"}
    report = fill(lambda cell, seed: states.get((cell, seed), "finished"))
    by_name = {cell.name: cell for cell in report.table.cells}
    assert [len(cell.finished) for cell in by_name.values()] == [3, 2, 1, 2]
    assert by_name["10"].state == "diverged"
    assert by_name["100"].replicates[2].state == "missing"
    text = markdown(report)
    assert "12 runs: 8 finished" in text
    assert "- 10, seed 2: diverged, step 51 of 80: loss.fd is NaN" in text
    assert "| 100 | 1 of 3 |" in text
    assert "not enough seeds" in text
    assert len(troubles(report.table.cells)) == 3
    assert "1 missing" in progress(report.table.cells)
    assert report.best == "0"  # the only one with every seed


def test_a_cell_that_gets_a_further_seed_can_still_be_the_best(fill, record, study):
    fill()
    record(study, "1000", 3, {"image_to_text_r1": 0.4}, state="running")
    report = report_on(study, "mine", Path("runs"), "mine.toml")
    (most,) = (cell for cell in report.table.cells if cell.name == "1000")
    assert (len(most.finished), most.is_complete) == (3, False)
    assert report.best == "1000"


def test_before_anything_has_finished_there_is_a_table_of_states(fill):
    report = fill(lambda cell, seed: "running" if (cell, seed) == ("0", 0) else "")
    assert [cell.state for cell in report.table.cells][1:] == ["missing"] * 3
    text = markdown(report)
    assert "12 runs: " in text
    assert "## Findings" not in text


def test_a_run_whose_cell_the_file_has_lost_is_still_shown(fill, study_file):
    fill()
    study = load_study(study_file(STUDY_WITHOUT_TEN))
    report = report_on(study, "mine", Path("runs"), "mine.toml")
    assert [cell.name for cell in report.table.cells] == ["0", "100", "1000", "10"]


STUDY_WITHOUT_TEN = """
question = "Which weight?"
recipe = "fd"
steps = 80
baseline = "0"
[grid]
loss.fd.weight = [0, 100, 1000]
"""


def test_the_words_claim_no_more_than_the_seeds_carry(fill):
    said = "\n".join(findings(fill()))
    assert "image→text R@1: better than 0: 100 (+6.0), 1000 (+8.0)." in said
    assert "image→text R@1: equivalent to 0, within 1.0 points: 10 (+0.2)." in said
    assert "text→image R@1: better than 0: 100 (+6.0), 1000 (+8.0)." in said
    assert re.search(r"minimum detectable effect with 3 seeds is \d\.\d points \(80 % power\)", said)
    assert "our order of 4 cells against the paper's: too few cells for a test (Kendall τ +1.00" in said
    assert "after 31% of training τ +1.00, after 62% of training τ +1.00" in said


def test_the_number_of_seeds_needed_is_reported_next_to_the_best(record, study):
    near = {"0": (0.30, 0.28, 0.33), "10": (0.305, 0.271, 0.333), "100": (0.306, 0.284, 0.326), "1000": (0.2, 0.2, 0.2)}
    for cell, values in near.items():
        for seed, value in enumerate(values):
            record(study, cell, seed, {"image_to_text_r1": value})
    report = report_on(study, "mine", Path("runs"), "mine.toml")
    said = "\n".join(findings(report))
    assert re.search(
        r"3 seeds, 100, the best by validation, is open against .*10 \(about \d+ seeds needed\)",
        said,
    )


def test_every_form_of_an_open_verdict_has_the_seeds_that_would_decide(record, study):
    near = {"0": (0.30, 0.28, 0.33), "10": (0.305, 0.271, 0.333), "100": (0.306, 0.284, 0.326), "1000": (0.2, 0.2, 0.2)}
    for cell, values in near.items():
        for seed, value in enumerate(values):
            record(study, cell, seed, {"image_to_text_r1": value})
    report = report_on(study, "mine", Path("runs"), "mine.toml")
    entries = {cell: of["image_to_text_r1"] for cell, of in report.table.entries.items()}
    needed = entries["10"].seeds_needed
    assert entries["10"].verdict == "open"
    assert needed > 3
    assert entries["10"].verdict_text == f"open, {needed} seeds"
    assert rf"$^{{?{needed}}}$" in latex(report.table, report.table.cells)
    lines = {line["cell"]: line for line in csv.DictReader(io.StringIO(cells_csv(report.table)))}
    assert lines["10"]["seeds_needed"] == str(needed)
    write_report(report, Path("out"), ("csv",))
    read = read_table(Path("out"), study)
    assert {cell: of["image_to_text_r1"].verdict_text for cell, of in read.entries.items()} == {
        cell: entry.verdict_text for cell, entry in entries.items()
    }
    # An earlier report has no such column: its number of seeds is unknown.
    file = Path("out/cells.csv")
    file.write_text("".join(line.rpartition(",")[0] + "\n" for line in file.read_text().splitlines()))
    assert read_table(Path("out"), study).entries["10"]["image_to_text_r1"].verdict_text == "open, more seeds"
    many = replace(entries["10"], seeds_needed=None)
    assert many.verdict_text == "open, >1k seeds"


def test_seeds_that_agree_to_the_last_pair_by_chance_prove_nothing(record, study):
    for cell, value in {"0": 0.30, "10": 0.31}.items():
        for seed in range(3):
            record(study, cell, seed, {"image_to_text_r1": value}, num_params=200_000 + (cell == "10"))
    report = report_on(study, "mine", Path("runs"), "mine.toml")
    assert report.to_baseline["image_to_text_r1"].verdicts == {"10": "open"}
    by_size = interpret_against([metric_label("num_params")], report.table.cells, "0")
    assert by_size["num_params"].verdicts == {"10": "worse"}  # which no chance decides


def test_it_has_provenance_and_the_commands_to_repeat_it(fill):
    report = fill()
    made = report.made_on
    assert made.machines == ("device x86_64, threads 2, torch 2.15.0, python 3.11.2",)
    assert (made.steps, made.batch_size) == ((80,), (100,))
    assert made.pairs == ("1000 of samples:scenes",)
    assert made.command == "workbench sweep --study mine.toml"
    assert made.report == "workbench report mine.toml"
    assert len(made.config_sha256) == 64
    assert "- code: not recorded" in markdown(report)


def test_the_command_has_the_rule_for_seeds_that_the_runs_followed(fill, study_file):
    study_file(Path("mine.toml").read_text().replace("seeds = 3", 'seeds = "auto"'))
    fill()
    auto = load_study("mine.toml")
    assert report_on(auto, "mine", Path("runs"), "mine.toml").made_on.command == "workbench sweep --study mine.toml"
    fixed = auto.model_copy(update={"most_seeds": 0})
    save_copy(fixed, "mine", Path("runs"))
    report = report_on(auto, "mine", Path("runs"), "mine.toml")
    assert report.made_on.command == "workbench sweep --study mine.toml --seeds 3"
    assert not report.study.is_sequential
    save_copy(auto.model_copy(update={"margin": 2.0}), "mine", Path("runs"))
    command = report_on(auto, "mine", Path("runs"), "mine.toml").made_on.command
    assert command == "workbench sweep --study mine.toml --margin 2"


def test_teacher_data_and_code_are_named_by_their_fingerprints(record, study):
    run = record(study, "0", 0, {"image_to_text_r1": 0.3})
    machine = run.config_file.read_text().replace("[machine]", '[machine]\ncode_sha256 = "c0de0000000000001"')
    run.config_file.write_text(machine)
    teacher = {"weights_sha256": "7eac4e4000000000f", "scale": 28.16}
    write_checkpoint(run, 80, {}, {"data_fingerprint": "da7a000000000000f", "teacher": teacher})
    text = markdown(report_on(study, "mine", Path("runs"), "mine.toml"))
    for line in (
        "- teacher: sample:scenes, scale 1/τ 28.2",
        "- training pairs: sha256 da7a000000000000",
        "- teacher's weights: sha256 7eac4e4000000000",
        "- code: sha256 c0de000000000000",
    ):
        assert f"{line}\n" in text


def test_the_command_has_the_sweeps_overrides(record, study, monkeypatch):
    from workbench.config.cells import Changes, cells_of
    from workbench.results import facts

    changed = cells_of(study, Changes(("data.num_pairs=300", "optimizer.betas=[0.9, 0.95]"), steps=40))[0].config
    run = record(study, "0", 0, {"image_to_text_r1": 0.3})
    monkeypatch.setattr(facts, "load_run_config", lambda _: changed)
    report = report_on(study, "mine-quick", Path("runs"), "mine.toml")
    assert report.made_on.command.endswith("--quick")  # no run is of that name
    words = shlex.split(report_on(study, "mine", Path("runs"), "mine.toml").made_on.command)
    assert words[:4] == ["workbench", "sweep", "--study", "mine.toml"]
    assert words[4:8] == ["--seeds", "1", "--steps", "40"]
    assert set(words[9::2]) == {"data.num_pairs=300", "optimizer.betas=[0.9, 0.95]"}
    assert run.exists


def test_the_csv_files_hold_every_number(fill):
    report = fill(lambda cell, seed: "" if (cell, seed) == ("100", 2) else "finished")
    lines = list(csv.DictReader(io.StringIO(cells_csv(report.table))))
    (line,) = (one for one in lines if one["cell"] == "1000" and one["metric"] == "image_to_text_r1")
    assert float(line["mean"]) == pytest.approx(100 * sum(VALUES["1000"]) / 3, rel=1e-5)
    assert (line["num_seeds"], line["unit"], line["verdict"], line["paper"]) == ("3", "%", "better", "37")
    assert float(line["low"]) < float(line["mean"]) < float(line["high"])
    assert float(line["sd"]) == pytest.approx(100 * stdev(VALUES["1000"]), rel=1e-5)
    runs = list(csv.DictReader(io.StringIO(runs_csv(report.table))))
    assert len(runs) == 12
    (missing,) = (one for one in runs if one["state"] == "missing")
    assert (missing["cell"], missing["seed"], missing["run"], missing["cka"]) == ("100", "2", "", "")
    assert {float(one["image_to_text_r1"]) for one in runs if one["cell"] == "0"} == set(VALUES["0"])
    assert {one["loss.fd.weight"] for one in runs} == {"0", "10", "100", "1000"}


def test_latex_is_balanced_and_escaped(fill):
    report = fill()
    text = latex(report.table, report.table.cells)
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert text.count("{") == text.count("}")
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert {line.count("&") for line in body.strip().splitlines()} == {4}
    assert r"1000 & 38.3 $\pm$" in body
    assert not re.search(r"(?<!\\)[%_]", text.split("\n", 1)[1])
    assert latex_escape("50 % of a_b & {c} → d") == r"50 \% of a\_b \& \{c\} $\to$ d"


def test_the_document_is_json_with_the_figures_of_the_table(fill):
    found = json.loads(json.dumps(document(fill()), allow_nan=False))
    assert [cell["name"] for cell in found["cells"]] == list(VALUES)
    assert found["cells"][3]["gains"]["image_to_text_r1"]["verdict"] == "better"
    assert found["cells"][0]["paper"] == {"image_to_text_r1": 31.0, "text_to_image_r1": 30.0}
    assert found["agreement"]["image_to_text_r1"]["tau"] == 1
    assert set(found["rank_forecast"]) == {"25", "50"}


def test_one_seed_has_no_interval_and_null_in_json(record, study):
    for cell in ("0", "1000"):
        record(study, cell, 0, {"image_to_text_r1": 0.3})
    report = report_on(study, "mine", Path("runs"), "mine.toml")
    found = json.loads(json.dumps(document(report), allow_nan=False))
    assert found["cells"][0]["metrics"]["image_to_text_r1"]["low"] is None
    assert found["detectable"]["image_to_text_r1"] is None
    _, (row, *_) = grid(report.table, report.table.metrics[0], report.table.cells)
    assert row[:4] == ["0", "1 of 3", "30.0", ""]
    assert found["cells"][0]["metrics"]["image_to_text_r1"]["sd"] is None


FD = """
question = "Losses?"
recipe = "fd"
seeds = 1
[grid]
loss.fd.weight = [10, 100]
[paper]
source = "A paper, Table 1"
[paper.cells]
10 = { loss_scratch = 0.079, loss_converged = 0.013 }
100 = { loss_scratch = 0.794, loss_converged = 0.089 }
"""


def test_the_loss_at_scratch_and_when_trained_stands_beside_the_papers(record, study_file):
    study = load_study(study_file(FD))
    record(study, "10", 0, {"image_to_text_r1": 0.3})
    report = report_on(study, "mine", Path("runs"), "mine.toml")
    entries = report.table.entries["10"]
    assert entries["loss_scratch"].mean.mean == 7.7
    assert entries["loss_converged"].mean.mean == 0.5
    assert "| 10 | 1 of 1 | 7.700 |  | 0.079 |" in markdown(report)


def test_equal_runs_give_equal_bytes(fill):
    report = fill()
    again = report_on(report.study, "mine", Path("runs"), "mine.toml")
    assert markdown(report) == markdown(again)
    assert document(report) == document(again)


HOSTILE = "=1+1 a|b\\end{table}`c`<script> [x](http://y) \x1b[2J\n$x$ #_%&~^{}"


@pytest.fixture
def hostile(record, study_file):
    """A study with a cell, and a recorded reason, that somebody else named."""
    study = load_study(study_file())
    for seed in range(2):
        record(study, "0", seed, {"image_to_text_r1": 0.3 + 0.01 * seed})
        run = record(study, HOSTILE, seed, {"image_to_text_r1": 0.2 + 0.01 * seed}, values={"loss.fd.weight": -0.5})
        assert run.id
    return report_on(study, "mine", Path("runs"), "mine.toml")


def test_names_of_others_break_no_table_in_markdown(hostile):
    lines = markdown(hostile).splitlines()
    assert all(line.isprintable() for line in lines)
    bars = [line for line in lines if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in bars}) == 1
    (row, *_) = (line for line in bars if "=1+1" in line)
    assert row.startswith(r"| =1+1 a\|b\\end{table}\`c\`\<script> \[x](http://y) \\x1b[2J\\n$x$ #_%&~^{} |")
    shown = report_text(markdown(hostile), 1000).plain
    assert r"=1+1 a|b\end{table}`c`<script> [x](http://y) \x1b[2J\n$x$ #_%&~^{}" in shown


def test_names_of_others_are_text_in_latex(hostile):
    text = latex(hostile.table, hostile.table.cells)
    assert text.count(r"\end{table}") == text.count(r"\begin{table}") == 1
    assert r"=1+1 a\textbar{}b\textbackslash{}end\{table\}" in text
    assert r"\textbackslash{}x1b[2J\textbackslash{}n\$x\$ \#\_\%\&\textasciitilde{}\textasciicircum{}\{\}" in text
    assert len(text.splitlines()) == len(latex(hostile.table, hostile.table.cells[:4]).splitlines()) + 1


def test_names_of_others_are_no_formula_in_csv_and_numbers_stay(hostile):
    for text in (cells_csv(hostile.table), runs_csv(hostile.table)):
        rows = list(csv.DictReader(text.splitlines()))
        (found, *_) = (row for row in rows if "1+1" in row["cell"])
        assert found["cell"].startswith("'=1+1 a|b")
    assert {row["loss.fd.weight"] for row in rows if "1+1" in row["cell"]} == {"-0.5"}


def test_a_name_with_dollar_signs_is_drawn(hostile):
    assert {path.name for path in write_report(hostile, Path("out"), ["png"])} >= {"cells.png"}
