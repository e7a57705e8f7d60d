"""Reports of what varies several settings: a grid's main effects, a search's history, front and shares."""

from pathlib import Path

import pytest

from workbench.results.answers import is_answered
from workbench.results.markdown import markdown
from workbench.results.report import StudyReport, report_on
from workbench.runs.studies import load_study

GRID = """
question = "Both?"
recipe = "mfd"
seeds = 2
[grid]
loss.mfd.weight = [1000, 2000]
loss.mfd.mask_ratio = [0, 0.25, 0.5]
"""


def test_a_grid_of_two_settings_has_main_effects(record, study_file):
    study = load_study(study_file(GRID))
    for weight in (1000, 2000):
        for ratio in ("0", "0.25", "0.5"):
            for seed in (0, 1):
                value = 0.3 + 0.05 * (weight == 2000) - 0.1 * float(ratio) + 0.01 * seed
                record(study, f"mfd.weight={weight} mfd.mask_ratio={ratio}", seed, {"image_to_text_r1": value})
    report = report_on(study, "mine", Path("runs"), "mine.toml")
    effects = {(one.setting, one.level): one.gain.mean for one in report.effects["image_to_text_r1"]}
    assert effects["loss.mfd.weight", 2000] == pytest.approx(0.025)
    assert effects["loss.mfd.mask_ratio", 0.5] == pytest.approx(-0.025)
    assert "## Main effects" in markdown(report)


SEARCH = """
question = "Which?"
recipe = "fd"
seeds = 2
sampler = "tpe"
trials = 6
warm_start = ["fd"]
[search]
loss.fd.weight = { low = 10.0, high = 3000.0, log = true }
loss.clip.weight = { low = 0.5, high = 2.0 }
[[objectives]]
metric = "image_to_text_r1"
[[objectives]]
metric = "num_params"
direction = "minimize"
"""


@pytest.fixture
def search(record, study_file) -> StudyReport:
    study = load_study(study_file(SEARCH))
    for trial, (weight, value, size) in enumerate(
        [(100, 0.30, 30), (20, 0.25, 20), (900, 0.38, 40), (1500, 0.37, 50), (2900, 0.33, 25)]
    ):
        values = {"loss.fd.weight": float(weight), "loss.clip.weight": 1.0 + trial / 10}
        for seed in (0, 1) if trial != 3 else (0,):
            metrics = {"image_to_text_r1": value + 0.01 * seed}
            record(study, f"t{trial:04d}", seed, metrics, values=values, trial=trial, num_params=size * 1000)
    return report_on(study, "mine", Path("runs"), "mine.toml")


def test_a_search_has_a_history_a_front_and_shares(search):
    assert [one.num_seeds for one in search.tried] == [2, 2, 2, 1, 2]
    best = [round(one.best / 0.98, 3) for one in search.tried]
    assert best == [0.305, 0.305, 0.385, 0.385, 0.385]
    assert search.best == "t0002"
    assert search.table.baseline == "t0000"
    assert {point.cell for point in search.front if point.on_front} == {"t0001", "t0002", "t0004"}
    assert sum(search.importance.shares.values()) == pytest.approx(1)
    text = markdown(search)
    assert "PED-ANOVA over 5 configurations, fewer than 30: unreliable." in text
    assert "Best by validation: **t0002** (fd.weight=900 clip.weight=1.2)" in text
    assert text.index("| t0002 |") < text.index("| t0000 |")


def test_a_search_of_several_lengths_reports_its_best_at_the_last(record, study_file):
    text = SEARCH.replace("trials = 6", "trials = 9\nlengths = [20, 40, 80]\nconfirm_seeds = 0")
    study = load_study(study_file(text[: text.index('[[objectives]]\nmetric = "num_params"')]))
    configurations = {f"t{n:04d}": (10.0 * (n + 1), 0.5 + n / 10) for n in range(9)}
    short = {name: 0.1 + 0.01 * number for number, name in enumerate(configurations)}
    longer = {"t0008": 0.4, "t0007": 0.5, "t0006": 0.45}
    parts = {"mine": short, "mine-40-steps-of-9": longer, "mine-80-steps-of-9": {"t0007": 0.6}}
    for name, values in parts.items():
        for cell, value in values.items():
            weight, clip = configurations[cell]
            settings = {"loss.fd.weight": weight, "loss.clip.weight": clip}
            for seed in (0, 1):
                metrics = {"image_to_text_r1": value + seed / 1000}
                record(study, cell, seed, metrics, values=settings, trial=int(cell[1:]), name=name)
    report = report_on(study, "mine", Path("runs"), "mine.toml")
    assert report.best == "t0007"
    assert [stage.table.name for stage in report.stages] == ["mine-40-steps-of-9", "mine-80-steps-of-9"]
    text = markdown(report)
    lines = [line for line in text.splitlines() if line.startswith("| t000") and "fd.weight=" in line]
    assert [line.split(" | ")[0] for line in lines] == ["| t0007", "| t0006", "| t0008"]
    assert lines[0].endswith("| 16.7 | 49.0 | 58.8 |")  # validation is 98 % of the test pairs here
    assert "- The order after 40 steps and before: Kendall τ -0.33, 3 configurations." in text
    assert is_answered(report)


ONE_METRIC = """
question = "Which?"
recipe = "fd"
seeds = 2
[grid]
loss.fd.weight = [0, 10, 100]
[paper]
source = "A paper"
[paper.cells]
0 = { zero_shot_top1 = 30 }
10 = { zero_shot_top1 = 31 }
100 = { zero_shot_top1 = 32 }
"""


def test_an_order_published_in_one_metric_is_compared_with_ours_in_all(record, study_file):
    study = load_study(study_file(ONE_METRIC))
    for cell, (recall, accuracy) in {"0": (0.3, 0.2), "10": (0.2, 0.3), "100": (0.1, 0.4)}.items():
        for seed in (0, 1):
            record(study, cell, seed, {"image_to_text_r1": recall, "zero_shot_top1": accuracy})
    found = report_on(study, "mine", Path("runs")).agreement
    assert {metric: (agreed.tau, agreed.published) for metric, agreed in found.items()} == {
        "zero_shot_top1": (pytest.approx(1), ""),
        "image_to_text_r1": (pytest.approx(-1), "zero_shot_top1"),
    }
