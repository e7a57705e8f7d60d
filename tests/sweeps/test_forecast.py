"""What is forecast for several processes, and how the time left is corrected while they work."""

import pytest
import tomli_w

from workbench.config.cells import Cell, Changes
from workbench.config.run import RunConfig
from workbench.preflight import cost
from workbench.preflight.cost import RunForecast, num_validations
from workbench.preflight.timing import PairCost
from workbench.runs.studies import load_study
from workbench.sweeps import forecast
from workbench.sweeps.confirm import measured_cells, rivals_ahead, trials_ahead
from workbench.sweeps.forecast import Clock, make_forecast, measure_costs
from workbench.sweeps.plan import Group, groups

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
    config = RunConfig.parse({})
    return [Cell(name, {}, config) for name in "ab"]


@pytest.mark.parametrize(("workers", "total_s"), [(1, 210), (2, 105), (3, 70), (9, 70)])
def test_processes_share_the_seeds_but_none_is_split(cells, workers, total_s):
    made = make_forecast(list(groups(cells, range(3))), COSTS, 1000.0, workers=workers)
    assert made.total_s == pytest.approx(total_s)  # a seed is 10 s shared, 20 s and 40 s
    assert made.num_runs == 6
    assert made.peak_mb == workers * 105
    assert made.run_s == {"a": 25.0, "b": 45.0}


@pytest.fixture
def passing(monkeypatch):
    """``passing(seconds)``: lets time go by for clocks."""
    now = [0.0]
    monkeypatch.setattr(forecast.time, "monotonic", lambda: now[0])

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
