import numpy as np
import pytest

from workbench.views.curves import Curves, Series
from workbench.views.learning import learning_view


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
