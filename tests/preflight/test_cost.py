import pytest

from workbench.engine.build import build_cohort
from workbench.engine.loop import train
from workbench.events import EvalDone
from workbench.preflight.cost import Pace, forecast_runs, num_validations
from workbench.preflight.timing import StepTiming

PACE = Pace(StepTiming(wait_s=0.5, teacher_forward_s=2.0, learn_s={"run": 1.0}), teacher_again_s=0.25, peak_mb=1000.0)


@pytest.fixture
def cohort(tiny):
    return build_cohort({"run": tiny()})


def test_a_run_is_as_many_steps_and_evaluations(tiny) -> None:
    data = {"num_validation_pairs": 40, "test": "auto", "num_test_pairs": 20}
    cohort = build_cohort({"run": tiny(data=data, evaluate={"every_steps": 4})})
    pace = Pace(PACE.step, 2.0, 1000.0, student_s=0.5, teacher_s=0.25)
    forecast = forecast_runs(cohort, pace, 8000.0)["run"]
    assert forecast.training_s == pytest.approx(12 * 3.5)
    assert forecast.waiting_s == pytest.approx(6)
    assert forecast.evaluation_s == pytest.approx((3 * 40 + 20) * 0.5 + (40 + 20) * 0.25)
    assert forecast.total_s == pytest.approx(42 + 85)
    assert forecast.pairs_per_s == pytest.approx(20 / 3.5)


def test_members_share_what_a_cohort_takes_once(tiny) -> None:
    cohort = build_cohort({"a": tiny(), "b": tiny(seed=1)})
    step = StepTiming(wait_s=0.5, teacher_forward_s=2.0, learn_s={"a": 1.0, "b": 3.0})
    runs = forecast_runs(cohort, Pace(step, 2.0, peak_mb=1000.0), 8000.0)
    assert (runs["a"].own_s, runs["b"].own_s) == (12.0, 36.0)
    assert runs["a"].shared_s == runs["b"].shared_s == 12 * 2.5
    assert runs["a"].peak_mb == pytest.approx(1000 - runs["b"].state_mb)


def test_stored_teacher_outputs_cost_one_forward(tiny) -> None:
    cohort = build_cohort({"run": tiny(data={"views": 2})})  # 3 steps an epoch: 6 of 12 show what is new
    forecast = forecast_runs(cohort, PACE, 8000.0)["run"]
    assert forecast.training_s == pytest.approx(12 * 1.5 + 6 * 2.0 + 6 * 0.25)


@pytest.mark.parametrize("every", [0, 4, 5, 12, 100])
def test_evaluations_are_counted_as_the_loop_makes_them(tiny, every: int) -> None:
    config = tiny(evaluate={"every_steps": every})
    events = list(train(build_cohort({"run": config})))
    assert num_validations(config) == sum(isinstance(event, EvalDone) for event in events)


def test_checkpoints_hold_the_weights_three_times(cohort) -> None:
    num_bytes = 4 * sum(p.numel() for p in cohort.members[0].state.parameters())
    forecast = forecast_runs(cohort, PACE, 8000.0)["run"]
    assert forecast.checkpoints_mb == pytest.approx(3 * 3 * num_bytes / 2**20)  # two are kept while a third is written
