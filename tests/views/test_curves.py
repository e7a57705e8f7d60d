import numpy as np
import pytest

from workbench.events import EvalDone, RunFinished, StepDone, Warned
from workbench.views.curves import Curves, Series, curves, learning_view


def step_done(step: int, loss: float, weighted: dict[str, float], run: str = "r") -> StepDone:
    return StepDone(
        run=run,
        step=step,
        loss=loss,
        terms={},
        weighted=weighted,
        scales={},
        learning_rate=1e-3,
        grad_norm=1.0,
        step_time_s=0.1,
        pairs_per_s=100.0,
        elapsed_s=1.0,
        peak_mb=10.0,
    )


def eval_done(step: int, split: str, metrics: dict[str, float]) -> EvalDone:
    return EvalDone(run="r", step=step, split=split, num_pairs=10, metrics=metrics, elapsed_s=1.0)


def test_events_become_arrays_by_step_term_split_and_metric() -> None:
    found = curves(
        [
            step_done(10, 5.0, {"clip": 4.0}),
            eval_done(10, "validation", {"cka": 0.25}),
            step_done(20, 4.0, {"clip": 3.0, "fd": 0.5}),
            eval_done(20, "validation", {"cka": 0.5}),
            eval_done(20, "test", {"cka": 0.75}),
            Warned(run="r", step=20, message="hot"),
            RunFinished(run="r", step=20, state="finished", elapsed_s=2.0),
        ]
    )
    assert found.run == "r"
    assert (found.loss.step.dtype, found.loss.value.dtype) == (np.int64, np.float64)
    assert (found.loss.step.tolist(), found.loss.value.tolist()) == ([10, 20], [5.0, 4.0])
    assert found.weighted["clip"].value.tolist() == [4.0, 3.0]
    assert (found.weighted["fd"].step.tolist(), len(found.weighted["fd"])) == ([20], 1)
    assert found.metrics["validation"]["cka"].value.tolist() == [0.25, 0.5]
    assert found.metrics["test"]["cka"].step.tolist() == [20]


def test_the_later_of_two_lines_for_a_step_counts_and_steps_ascend() -> None:
    found = curves([step_done(2, 9.0, {}), step_done(1, 8.0, {}), step_done(2, 7.0, {})])
    assert (found.loss.step.tolist(), found.loss.value.tolist()) == ([1, 2], [8.0, 7.0])


def test_events_of_no_or_several_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="got 0"):
        curves([])
    with pytest.raises(ValueError, match="got 2"):
        curves([step_done(1, 1.0, {}, "a"), step_done(1, 1.0, {}, "b")])


def run(name: str, points: dict[int, float]) -> Curves:
    series = Series(np.array(list(points)), np.array(list(points.values())))
    return Curves(name, Series(np.array([]), np.array([])), {}, {"validation": {"cka": series}})


def test_the_mean_is_over_the_seeds_at_the_steps_they_share() -> None:
    view = learning_view(
        {
            "baseline": [run("a", {0: 0.0, 10: 0.2, 20: 0.4}), run("b", {0: 0.2, 20: 0.8, 30: 1.0})],
            "clip-kd": [run("c", {5: 0.5})],
        },
        "cka",
        "validation",
        teacher=0.9,
    )
    assert [curve.model for curve in view.models] == ["baseline", "clip-kd"]
    assert [len(series) for series in view.models[0].seeds] == [3, 3]
    assert view.models[0].mean.step.tolist() == [0, 20]
    assert view.models[0].mean.value.tolist() == pytest.approx([0.1, 0.6])
    assert view.models[1].mean.value.tolist() == [0.5]
    assert (view.metric.label, view.split, view.teacher) == ("linear CKA", "validation", 0.9)


def test_a_run_without_the_metric_is_named() -> None:
    with pytest.raises(ValueError, match="run a has no zero_shot_top1 on validation"):
        learning_view({"baseline": [run("a", {0: 0.0})]}, "zero_shot_top1", "validation")
    with pytest.raises(ValueError, match="no cka on test"):
        learning_view({"baseline": [run("a", {0: 0.0})]}, "cka", "test")
