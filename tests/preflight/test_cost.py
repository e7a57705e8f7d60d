from dataclasses import replace

import pytest

from workbench.engine.build import build_cohort
from workbench.engine.loop import train
from workbench.events import EvalDone
from workbench.preflight.cost import (
    Evaluations,
    RunForecast,
    does_not_fit,
    duration,
    forecast_findings,
    make_forecast,
    num_validations,
)
from workbench.preflight.trial import StepTiming, StepTrial

TRIAL = StepTrial(6, StepTiming(wait_s=0.5, teacher_forward_s=2.0, learn_s={"run": 1.0}), 0.25, 1000.0, None, 120, 0)
SOUND = RunForecast(100, 50.0, 1.0, 200.0, 20.0, 4, 1000.0, 8000.0, 50.0)


@pytest.fixture
def cohort(tiny):
    return build_cohort({"run": tiny()})


def test_a_run_is_as_many_steps_and_evaluations(cohort) -> None:
    evaluations = Evaluations(4, student_s=2.0, teacher_s=3.0, test_student_s=5.0, test_teacher_s=7.0)
    forecast = make_forecast(cohort, TRIAL, evaluations, 8000.0)
    assert forecast.training_s == pytest.approx(12 * 3.5)
    assert forecast.waiting_s == pytest.approx(6)
    assert forecast.evaluation_s == pytest.approx(4 * 2 + 3 + 5 + 7)
    assert forecast.total_s == pytest.approx(42 + 23)
    assert forecast.pairs_per_s == pytest.approx(20 / 3.5)


def test_stored_teacher_outputs_cost_one_forward(tiny) -> None:
    cohort = build_cohort({"run": tiny(data={"views": 2})})  # 3 steps an epoch: 6 of 12 show what is new
    forecast = make_forecast(cohort, TRIAL, Evaluations(0, 0, 0), 8000.0)
    assert forecast.training_s == pytest.approx(12 * 1.5 + 6 * 2.0 + 6 * 0.25)


@pytest.mark.parametrize("every", [0, 4, 5, 12, 100])
def test_evaluations_are_counted_as_the_loop_makes_them(tiny, every: int) -> None:
    config = tiny(evaluate={"every_steps": every})
    events = list(train(build_cohort({"run": config})))
    assert num_validations(config) == sum(isinstance(event, EvalDone) for event in events)


def test_checkpoints_hold_the_weights_three_times(cohort) -> None:
    num_bytes = 4 * sum(p.numel() for p in cohort.members[0].state.parameters())
    forecast = make_forecast(cohort, TRIAL, Evaluations(0, 0, 0), 8000.0)
    assert forecast.checkpoints_mb == pytest.approx(3 * 3 * num_bytes / 2**20)  # two are kept while a third is written


def test_a_sound_forecast_has_no_warning(cohort, one) -> None:
    found = list(forecast_findings(SOUND, cohort, 1e6))
    assert {finding.level for finding in found} == {"ok"}
    assert one(found, "time").message == "100 steps in 3.3 min at 50 pairs/s, 4 evaluations in 20 s: 3.7 min in all"


@pytest.mark.parametrize(
    ("changes", "check", "level", "remedy"),
    [
        ({"peak_mb": 9000.0}, "memory", "problem", "train.micro_batch_size=5 "),
        ({"peak_mb": 7500.0}, "memory", "warning", "train.micro_batch_size=5 "),
        ({"checkpoints_mb": 2e6}, "disk", "problem", "log.keep_checkpoints=1"),
        ({"waiting_s": 100.0}, "data rate", "warning", "data.num_workers=4"),
        ({"training_s": 8 * 86_400.0}, "time", "warning", "train.num_steps"),
        ({"training_s": 31 * 86_400.0}, "time", "problem", "train.num_steps"),
        ({"evaluation_s": 500.0}, "evaluation time", "warning", "evaluate.every_steps"),
    ],
)
def test_runs_that_do_not_fit_or_take_long_are_found(cohort, one, changes, check: str, level: str, remedy: str) -> None:
    found = list(forecast_findings(replace(SOUND, **changes), cohort, 1e6))
    assert one(found, check).level == level
    assert remedy in one(found, check).remedy
    assert sum(finding.level != "ok" for finding in found) == 1


def test_a_batch_that_does_not_fit_is_a_problem(cohort) -> None:
    assert does_not_fit(cohort).level == "problem"
    assert "a batch of 20" in does_not_fit(cohort).message


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.2, "4 s"), (90, "1.5 min"), (5400, "1.5 h"), (90_000, "25.0 h"), (400_000, "4.6 days")],
)
def test_durations_as_text(seconds: float, text: str) -> None:
    assert duration(seconds) == text
