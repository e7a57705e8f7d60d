"""Every cell at every seed trains once, with cells that may share its batches; forecasts for several processes."""

import time
from collections import Counter
from itertools import pairwise

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from workbench.config.cells import Cell, Changes, cells_of, example_cells
from workbench.config.run import RunConfig
from workbench.config.study import Study
from workbench.preflight import cost
from workbench.preflight.cost import RunForecast, num_validations
from workbench.preflight.timing import PairCost
from workbench.runs.studies import load_study, studies
from workbench.sweeps import plan
from workbench.sweeps.confirm import measured_cells, rivals_ahead, trials_ahead
from workbench.sweeps.plan import Clock, Group, check_study, groups, make_forecast, may_train_together, measure_costs
from workbench.sweeps.request import Request

BATCHES = st.sampled_from([32, 64, 128])
STUDENTS = st.sampled_from(["mini-w64", "mini-w96"])


@st.composite
def drawn_cells(draw):
    kinds = draw(st.lists(st.tuples(BATCHES, STUDENTS), min_size=1, max_size=12))
    return [
        Cell(f"c{index}", {}, RunConfig.parse({"train": {"batch_size": size}, "student": {"model": student}}))
        for index, (size, student) in enumerate(kinds)
    ]


@given(drawn_cells(), st.lists(st.integers(0, 5), unique=True, min_size=1), st.integers(0, 4))
def test_every_cell_at_every_seed_once(cells, seeds, at_once):
    planned = list(groups(cells, seeds, at_once))
    assert Counter((cell.name, group.seed) for group in planned for cell in group.cells) == Counter(
        (cell.name, seed) for cell in cells for seed in seeds
    )
    for group in planned:
        assert all(may_train_together(one, other) for one, other in pairwise(group.cells))
        assert not at_once or len(group.cells) <= at_once


@given(drawn_cells(), st.integers(1, 4))
def test_no_more_groups_than_needed(cells, at_once):
    kinds = Counter((cell.config.train.batch_size, cell.config.student.model) for cell in cells)
    assert len(list(groups(cells, [0], at_once))) == sum(-(-count // at_once) for count in kinds.values())
    assert len(list(groups(cells, [0]))) == len(kinds)


GRID = {"name": "mine", "question": "Q?", "recipe": "fd", "grid": {"loss.fd.weight": [0, 2000]}}
SEARCHED = {"name": "mine", "question": "Q?", "recipe": "mfd", "trials": 2}


def check(**changes: object) -> None:
    study = Study.parse(GRID | changes)
    check_study(study, cells_of(study) or example_cells(study))


@pytest.mark.parametrize("name", sorted(studies()))
def test_every_shipped_study_can_be(name: str) -> None:
    study = load_study(name)
    check_study(study, cells_of(study) or example_cells(study))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objectives": [{"metric": "image_to_text_r2"}]}, "unknown objective 'image_to_text_r2': did you mean"),
        ({"objectives": [{"metric": "loss_converged"}]}, "unknown objective 'loss_converged'"),
        (
            {"recipe": "baseline", "objectives": [{"metric": "cka"}], "grid": {"loss.clip.weight": [1, 2]}}
            | {"settings": {"teacher.model": ""}},
            "objective cka needs a teacher, and cell '1' has none: .*--set teacher.model=SPEC",
        ),
        (
            {"settings": {"data.validation": "", "data.test": ""}},
            "objective image_to_text_r1: cell '0' has no evaluation: .*--set data.validation=SPEC",
        ),
        ({"grid": {"loss.fd.wieght": [1, 2]}}, "cell '1': unknown setting of loss.fd 'wieght': did you mean 'weight'"),
        (
            {"recipe": "icl", "grid": {"loss.icl.temperature": [0.1, -1]}},
            r"cell '-1': loss\.icl\.temperature: .*a temperature is a positive number",
        ),
        (
            {"recipe": "mfd", "grid": {"loss.mfd.mask_ratio": [0.5, 1.5]}},
            "cell '1.5': loss.mfd: mask_ratio is",
        ),
    ],
)
def test_an_invalid_grid_is_refused_with_the_cells_name(changes: dict[str, object], said: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ValueError, match=said):
        check(**changes)
    assert time.perf_counter() - start < 5  # and so no model was loaded


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"search": {"loss.mfd.mask_ratio": {"low": 0.1, "high": 1.2}}},
            "mask_ratio=1.2': .*mask_ratio",
        ),
        ({"search": {"loss.mfd.mask_feeds": {"choices": ["all", "non"]}}}, r"cell 'loss\.mfd\.mask_feeds=non'"),
        (
            {"search": {"loss.mfd.weight": {"low": 1, "high": 2}}, "budget": {"num_parms": 9}},
            "unknown budget 'num_parms'",
        ),
    ],
)
def test_a_search_is_tried_at_every_end_and_choice(changes: dict[str, object], said: str) -> None:
    study = Study.parse(SEARCHED | changes)
    with pytest.raises(ValueError, match=said):
        check_study(study, example_cells(study))


SEARCH = """
question = "Which weight?"
recipe = "tiny.toml"
seeds = 2
trials = 4
confirm_seeds = 3
warm_start = ["tiny.toml"]
against = ["alone.toml"]
[search]
loss.fd.weight = { low = 0.1, high = 100.0, log = true }
[tuned."alone.toml"]
optimizer.learning_rate = { low = 1e-4, high = 1.0, log = true }
"""


def run(own_s: float) -> RunForecast:
    """A run with this time of its own, 10 s shared, a state of 5 MB and a peak of 100 MB."""
    return RunForecast(12, 20, own_s, 4.0, 6.0, 0, 0.0, 0.0, state_mb=5.0, peak_mb=100.0, room_mb=1e3, checkpoints_mb=1)


COSTS = {"a": run(20.0), "b": run(40.0)}


@pytest.fixture
def cells():
    config = RunConfig.parse({"train": {"num_steps": 12}})
    return [Cell(name, {}, config) for name in "ab"]


@pytest.mark.parametrize("gpus", [0, 1, 2])
@pytest.mark.parametrize(("workers", "total_s"), [(1, 210), (2, 105), (3, 70), (9, 70)])
def test_processes_share_the_seeds_but_none_is_split(cells, workers, total_s, gpus):
    on_one = Request(load_study("icl_weight"), workers=workers, gpus=gpus).workers_per_device
    made = make_forecast(list(groups(cells, range(3))), COSTS, 1000.0, workers=workers, workers_per_device=on_one)
    assert made.total_s == pytest.approx(total_s)  # a seed is 10 s shared, 20 s and 40 s
    assert made.num_runs == 6
    assert on_one == (workers if gpus < 2 else (workers + 1) // 2)
    assert made.peak_mb == on_one * 105
    assert made.run_s == {"a": 25.0, "b": 45.0}


def test_a_cell_without_steps_is_forecast_beside_others(cells):
    still = Cell("teacher", {}, RunConfig.parse({"train": {"num_steps": 0}}))
    costs = COSTS | {"teacher": RunForecast(0, 20, 0.0, 0.0, 0.0, 2, 7.0, 0.0, 5.0, 100.0, 1e3, 1, detector_s=30.0)}
    made = make_forecast(list(groups([*cells, still], [0])), costs, 1000.0)
    assert made.run_s == {"a": 25.0, "b": 45.0, "teacher": 37.0}


@pytest.fixture
def passing(monkeypatch):
    """``passing(seconds)``: lets time go by for clocks."""
    now = [0.0]
    monkeypatch.setattr(plan.time, "monotonic", lambda: now[0])

    def let(seconds):
        now[0] += seconds

    return let


def test_the_forecast_is_corrected_by_what_was_measured(passing):
    clock = Clock({"a": 25.0, "b": 45.0}, workers=2)
    assert clock.left("ab") == "; about 35 s left"
    clock.start()
    passing(140)  # twice what was forecast
    clock.stop("ab")
    assert clock.left("ab") == "; about 1.2 min left"
    assert clock.left((), 3) == "; about 1.8 min left"  # three runs that are not known yet cost the mean


def test_without_a_forecast_there_is_no_estimate_before_a_run_has_ended(passing):
    clock = Clock()
    assert clock.left("ab") == ""
    clock.start()
    passing(30)
    clock.stop("a")
    assert clock.left("ab") == "; about 1.0 min left"


def test_what_comes_after_a_search_is_counted_with_it(passing):
    clock = Clock({"a": 25.0}, later_s=200.0, workers=2)
    assert clock.left((), 4) == "; about 2.5 min left"
    clock.start()
    passing(50)  # twice what was forecast
    clock.stop(["t0007"])
    assert clock.left((), 3) == "; about 4.6 min left"
    of_a_team = Clock(later_s=10, workers=2)  # nothing measured: ten runs
    of_a_team.start()
    passing(30)
    of_a_team.stop(["t0007"])
    assert of_a_team.left((), 4) == "; about 3.5 min left"


def test_a_search_and_all_that_follows_it_are_forecast(tmp_path, tiny_table):
    table = {key: value for key, value in tiny_table.items() if key != "recipe"}
    for name in ("tiny", "alone"):
        (tmp_path / f"{name}.toml").write_text(tomli_w.dumps(table))
    (tmp_path / "search.toml").write_text(SEARCH)
    study = load_study(str(tmp_path / "search.toml"))
    cells = measured_cells(study, Changes())
    assert [cell.name for cell in cells] == ["tiny", "alone"]
    costs = {"tiny": run(30.0), "alone": run(20.0)}
    for num_tried, num_tuned in ((0, 0), (4, 0), (4, 3)):
        later = list(rivals_ahead(study, cells, dict.fromkeys(study.tuned, num_tuned), at_once=4))
        made = make_forecast(trials_ahead(study, cells[0], num_tried), costs, 1000.0, later=later)
        assert made.num_runs == study.num_runs - 2 * num_tried - 2 * num_tuned
        confirm_s = 3 * (
            30 + 20 + 20 + 30 + 10
        )  # seed by seed: the best and its three rivals, and once what they share
        tuning_s = (4 - num_tuned) * 2 * (20 + 10)
        assert made.later_s == confirm_s + tuning_s
        assert made.total_s == made.later_s + (4 - num_tried) * 2 * (30 + 10)
    assert study.num_runs == 4 * 2 + 4 * 2 + 4 * 3


def test_a_search_of_several_lengths_is_forecast_with_each_length(tmp_path, tiny_table):
    table = {key: value for key, value in tiny_table.items() if key != "recipe"}
    for name in ("tiny", "alone"):
        (tmp_path / f"{name}.toml").write_text(tomli_w.dumps(table))
    text = SEARCH.replace("trials = 4", "trials = 9\nlengths = [6, 12, 24]")
    (tmp_path / "search.toml").write_text(text)
    study = load_study(str(tmp_path / "search.toml"))
    cells = measured_cells(study, Changes())
    assert {cell.name: cell.config.train.num_steps for cell in cells} == {"tiny": 6, "alone": 24}
    costs = {"tiny": run(30.0).at(6), "alone": run(30.0).at(24)}  # 40 s for 12 steps
    later = list(rivals_ahead(study, cells, {}, at_once=1))
    made = make_forecast(trials_ahead(study, cells[0], 0), costs, 1000.0, later=later)
    assert made.num_runs == study.num_runs == 2 * (9 + 3 + 1) * 2 + 4 * 3
    steps = 2 * (9 * 6 + 3 * 12 + 1 * 24) * 2 + 4 * 3 * 24
    assert made.total_s == pytest.approx(steps * 40 / 12)


@pytest.fixture
def group(tiny) -> Group:
    return Group(0, (Cell("one", {}, tiny()),))


def test_a_step_that_takes_long_is_estimated_and_not_taken(group, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = PairCost(teacher_forward_s=1.0, learn_s={"one": 10.0}, grown_mb=100.0, chunk_size=16)
    monkeypatch.setattr(cost, "time_pairs", lambda _: slow)
    monkeypatch.setattr(cost, "take_steps", lambda *_: 1 / 0)
    said: list[str] = []
    forecast_run = measure_costs([group], tmp_path, said.append)["one"]
    assert "a step takes about 3.9 min" in said[-1]  # 32 s of the teacher and 20 x 10 s
    assert forecast_run.shared_s >= 12 * 32
    assert forecast_run.own_s >= 12 * 200
    assert forecast_run.peak_mb > 20 * 100
    assert "image_to_text_r1" in forecast_run.metrics
    assert num_validations(group.cells[0].at(0)) == 1


def test_a_quick_step_is_measured(group, tmp_path) -> None:
    said: list[str] = []
    forecast_run = measure_costs([group], tmp_path, said.append)["one"]
    assert len(said) == 1
    assert 0 < forecast_run.own_s < 60
