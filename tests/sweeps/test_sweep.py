"""Whole sweeps of tiny runs: what is trained, once; what fails, stated; what is interrupted, resumed."""

import os
import shutil
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from workbench.config.study import read_origin
from workbench.events import RunFinished, RunStarted, StepDone
from workbench.results.report import report_on
from workbench.results.trials import sweep_document, trials_table
from workbench.runs.directory import list_runs
from workbench.runs.log import read_events
from workbench.runs.studies import load_study, runs_of_study

CELLS = """
question = "Which fails?"
recipe = "tiny.toml"
seeds = 1
baseline = "fine"
settings.loss.demanding = { file = "demanding.py", weight = 1 }
[[cells]]
name = "fine"
[[cells]]
name = "not a number"
settings.loss.demanding.mode = "nan"
[[cells]]
name = "too large"
settings.loss.demanding.mode = "memory"
"""
SEARCH = """
question = "Which weight?"
recipe = "tiny.toml"
seeds = 2
sampler = "tpe"
trials = 4
warm_start = ["tiny.toml"]
[search]
loss.fd.weight = { low = 0.1, high = 100.0, log = true }
[[objectives]]
metric = "image_to_text_r1"
"""


def starts(run):
    return sum(isinstance(event, RunStarted) for event in read_events(run.events_file).events)


def test_a_grid_trains_every_cell_at_every_seed_once_and_pairs_them(planned, folder, finished):
    sweep = finished
    assert sweep.is_done
    found = runs_of_study(folder / "runs", "grid")
    assert Counter((one.origin.cell, one.origin.seed) for one in found) == {
        (cell, seed): 1 for cell in "015" for seed in (0, 1)
    }
    assert [starts(one.run) for one in found] == [1] * 6
    assert {one.origin.values["loss.fd.weight"] for one in found} == {0, 1, 5}
    entries = trials_table(sweep, sweep.trials).entries
    assert entries["0"]["image_to_text_r1"].mean.covers == "seeds and items"
    assert entries["0"]["cka"].mean.covers == "seeds"
    assert sweep.trials[0].outcomes[0].num_items == 40
    pairs = np.array([[one.outcomes[seed].metrics["cka"] for seed in (0, 1)] for one in sweep.trials])
    gain = entries["5"]["cka"].gain
    assert gain.per_seed == tuple(np.subtract(pairs[2], pairs[0]))
    residual = pairs - np.mean(pairs, 1, keepdims=True) - np.mean(pairs, 0) + np.mean(pairs)
    half = stats.t.ppf(0.975, 2) * np.sqrt(2 * (residual**2).sum() / 2 / 2)  # pooled over three cells, two seeds
    assert (gain.low, gain.high) == pytest.approx((gain.mean - half, gain.mean + half))
    assert entries["0"]["cka"].mean.mean == pytest.approx(np.mean(pairs[0]))
    again = planned("grid.toml")
    again.work()
    assert sweep_document(again) == sweep_document(sweep)
    assert [starts(one.run) for one in found] == [1] * 6


@pytest.mark.slow
@pytest.mark.usefixtures("finished")
def test_more_seeds_cost_only_the_new_ones(planned, folder):
    more = planned("grid.toml", seeds=3)
    assert not more.is_done
    more.work()
    runs = runs_of_study(folder / "runs", "grid")
    assert Counter(one.origin.seed for one in runs) == {0: 3, 1: 3, 2: 3}
    assert all(starts(one.run) == 1 for one in runs)
    assert [list(result.outcomes) for result in more.trials] == [[0, 1, 2]] * 3


@pytest.mark.usefixtures("finished")
def test_open_cells_get_more_seeds_until_the_most_or_a_verdict(planned, folder):
    # Six steps teach nothing: within a margin of 100 points all is settled, within 0 little can be.
    sequential = {"most_seeds": 4, "margin": 100.0}
    settled = planned("grid.toml", **sequential)
    settled.work()
    assert settled.is_done
    assert len(runs_of_study(folder / "runs", "grid")) == 6
    still_open = planned("grid.toml", **sequential | {"margin": 0.0})
    assert not still_open.is_done
    still_open.work()
    assert still_open.is_done
    seeds = {trial.name: list(trial.outcomes) for trial in still_open.trials}
    assert seeds["0"] == [0, 1, 2, 3]
    assert {len(of) for of in seeds.values()} <= {2, 3, 4}
    # As a report of the file alone, which does not ask for more seeds: the copy in the runs folder says so.
    report = report_on(load_study(str(folder / "grid.toml")), "grid", folder / "runs", "grid.toml")
    assert report.to_baseline["image_to_text_r1"].spread.sequential
    assert {cell.name: len(cell.replicates) for cell in report.table.cells} == {k: len(v) for k, v in seeds.items()}
    assert report.made_on.command == "workbench sweep --study grid.toml --seeds auto --margin 0"


def test_nothing_is_started_after_the_budget(planned, folder):
    late = planned("grid.toml", timeout_s=1e-9)
    late.work()
    assert not late.is_done
    assert not runs_of_study(folder / "runs", "grid")


def test_a_lost_database_is_made_again_from_the_runs(planned, folder, finished):
    before = sweep_document(finished)
    shutil.rmtree(folder / "runs" / "studies")
    again = planned("grid.toml")
    again.work()
    assert sweep_document(again) == before
    assert len(list_runs(folder / "runs")) == 6


@pytest.mark.filterwarnings("ignore:cannot read")
def test_an_unreadable_run_is_kept_and_trained_again(planned, folder, finished):
    before = sweep_document(finished)
    damaged = next(one.run for one in runs_of_study(folder / "runs", "grid") if one.origin.cell == "5")
    damaged.events_file.unlink()
    os.mkfifo(damaged.events_file)
    shutil.rmtree(folder / "runs" / "studies")
    again = planned("grid.toml")
    again.work()
    assert again.is_done
    assert not damaged.events_file.is_file()
    assert {one.id for one in list_runs(folder / "runs")} == {*runs_named(before), f"{damaged.id}-try2"}
    assert sweep_document(again)["cells"][2]["metrics"] == before["cells"][2]["metrics"]


def runs_named(document):
    return [run for cell in document["cells"] for run in cell["runs"]]


def test_what_fails_is_stated_and_the_rest_stands(planned, folder):
    (folder / "cells.toml").write_text(CELLS)
    sweep = planned("cells.toml")
    sweep.work()
    assert sweep.is_done
    fine, diverged, failed = sweep.trials
    assert [one.shown_state for one in (fine, diverged, failed)] == ["finished", "diverged", "failed"]
    assert "demanding was not finite at step 2" in diverged.outcomes[0].reason
    assert failed.outcomes[0].reason.startswith("out of memory")
    entries = trials_table(sweep, sweep.trials).entries
    assert {name: of["image_to_text_r1"].mean is not None for name, of in entries.items()} == {
        "fine": True,
        "not a number": False,
        "too large": False,
    }
    assert sweep.ledger.optuna.best_trial.user_attrs["name"] == "fine"
    assert sorted(run.id for run in list_runs(folder / "runs")) == [
        "cells-fine-s0",
        "cells-not-a-number-s0",
        "cells-too-large-s0",
    ]


@pytest.mark.slow
def test_what_failed_is_tried_again_only_if_asked(planned, folder):
    (folder / "cells.toml").write_text(CELLS)
    planned("cells.toml").work()
    number = len(planned("cells.toml").ledger.trials())
    planned("cells.toml").work()
    assert len(planned("cells.toml").ledger.trials()) == number == 3
    (folder / "demanding.py").write_text((folder / "demanding.py").read_text().replace("2**50", "2**5"))
    retried = planned("cells.toml", resumes=True)
    retried.retry()
    retried.work()
    assert [one.shown_state for one in retried.trials] == ["finished", "diverged", "finished"]


def stopping_after(steps):
    """(stop, watch): asks to stop once so many steps have been logged."""
    seen = []

    def watch(events, _):
        for event in events:
            seen.extend([event] if isinstance(event, StepDone) else [])
            yield event

    return (lambda: len(seen) >= steps), watch


def endings(folder):
    runs = runs_of_study(folder, "grid")
    return [read_events(one.run.events_file, (RunFinished,)).events[-1].state for one in runs]


@pytest.mark.slow
def test_an_interrupted_grid_goes_on_to_the_same_bits(planned, folder, finished):
    shas = {(one.name, seed): out.weights_sha256 for one in finished.trials for seed, out in one.outcomes.items()}
    shutil.move(folder / "runs", folder / "whole")
    stop, watch = stopping_after(2)
    planned("grid.toml").work(stop, watch)
    assert endings(folder / "runs") == ["interrupted"] * 3
    resumed = planned("grid.toml")
    assert not resumed.is_done
    cohorts = []
    resumed.work(watch=lambda events, _: cohorts.append(1) or events)
    assert resumed.is_done
    assert len(cohorts) == 2  # the three that were interrupted went on together, and the other seed's as ever
    again = {(one.name, seed): out.weights_sha256 for one in resumed.trials for seed, out in one.outcomes.items()}
    assert again == shas


@pytest.mark.slow
def test_an_interrupted_search_goes_on_with_the_same_sequence(planned, folder):
    (folder / "search.toml").write_text(SEARCH)
    whole = planned("search.toml")
    whole.work()
    points = [trial.values for trial in whole.ledger.trials()]
    assert points[0] == {"loss.fd.weight": 5.0}
    assert len({tuple(point.values()) for point in points}) == 4
    shutil.move(folder / "runs", folder / "whole")
    for steps in (1, 7):
        stop, watch = stopping_after(steps)
        planned("search.toml").work(stop, watch)
    resumed = planned("search.toml")
    resumed.work()
    assert [trial.values for trial in resumed.ledger.trials()] == points
    assert resumed.is_done
    assert sweep_document(resumed)["best"] == sweep_document(whole)["best"]
    metrics = [[cell["metrics"] for cell in sweep_document(sweep)["cells"]] for sweep in (resumed, whole)]
    assert metrics[0] == metrics[1]


def test_another_space_is_refused_with_the_difference(planned, folder):
    planned("grid.toml").ledger  # noqa: B018  # the property makes the study
    for change, said in (
        (("[0, 1, 5]", "[0, 1, 6]"), "cell '5' was the base and is not there; cell '6' was not there"),
        (('metric = "image_to_text_r1"', 'metric = "cka"'), "objectives was maximize image_to_text_r1"),
        (("[grid]", "settings.optimizer.learning_rate = 0.5\n[grid]"), "learning_rate was 0.001 and is 0.5"),
    ):
        text = (folder / "grid.toml").read_text()
        (folder / "grid.toml").write_text(text.replace(*change))
        with pytest.raises(ValueError, match=said) as refused:
            planned("grid.toml").ledger  # noqa: B018
        assert "--name" in str(refused.value)
        (folder / "grid.toml").write_text(text)
    with pytest.raises(ValueError, match=r"train.num_steps was 6 and is 9"):
        planned("grid.toml", steps=9).ledger  # noqa: B018


@pytest.mark.usefixtures("finished")
def test_runs_of_the_same_name_with_other_settings_are_not_taken_for_ours(planned, folder):
    shutil.rmtree(folder / "runs" / "studies")
    with pytest.raises(ValueError, match=r"other settings \(train.num_steps is 6 there, 9 here\)"):
        planned("grid.toml", steps=9).work()


@pytest.mark.usefixtures("finished")
def test_a_run_records_its_study(folder):
    run = next(run for run in list_runs(folder / "runs") if run.id == "grid-5-s1")
    origin = read_origin(run.config_file)
    assert (origin.study, origin.cell, origin.seed, origin.trial) == ("grid", "5", 1, 2)


def test_the_forecast_leaves_nothing_behind(planned, folder):
    sweep = planned("grid.toml")
    forecast = sweep.forecast()
    assert forecast.num_runs == 6
    assert forecast.at_once == 3
    assert 0 < forecast.total_s < 600
    assert not (folder / "runs").exists()


def test_an_objective_that_nothing_measures_is_named_before_anything_is_trained(planned, folder):
    text = (folder / "grid.toml").read_text().replace("image_to_text_r1", "image_to_text_r2")
    (folder / "grid.toml").write_text(text)
    with pytest.raises(ValueError, match="unknown objective 'image_to_text_r2': did you mean"):
        planned("grid.toml").forecast()


@pytest.mark.slow
def test_diverged_trials_are_reported_and_the_budget_holds(planned, folder):
    text = SEARCH.replace("seeds = 2", "seeds = 1").replace("[search]", "budget = { num_params = 10 }\n[search]")
    text = text.replace("[search]", 'settings.loss.demanding = { file = "demanding.py", weight = 1 }\n[search]')
    text += '[[objectives]]\nmetric = "num_params"\ndirection = "minimize"\n'
    text = text.replace("loss.fd.weight = {", 'loss.demanding.mode = { choices = ["fine", "nan"] }\nloss.fd.weight = {')
    (folder / "search.toml").write_text(text.replace('warm_start = ["tiny.toml"]', "").replace('"tpe"', '"random"'))
    sweep = planned("search.toml")
    sweep.work()
    assert sweep.is_done
    states = {one.values["loss.demanding.mode"]: one.shown_state for one in sweep.trials}
    assert states == {"fine": "finished", "nan": "diverged"}
    assert sweep_document(sweep)["best"] == []  # all have more parameters than the budget allows
    for trial in sweep.ledger.trials():
        broken = {"nan": "diverged", "fine": "num_params"}[trial.values["loss.demanding.mode"]]
        assert trial.frozen.constraints[broken] > 0


def test_a_warm_start_must_lie_in_the_space(planned, folder):
    (folder / "search.toml").write_text(SEARCH.replace("low = 0.1", "low = 6.0"))
    with pytest.raises(ValueError, match=r"warm start from .*tiny.toml: loss.fd.weight = 5.0 is outside"):
        planned("search.toml")
