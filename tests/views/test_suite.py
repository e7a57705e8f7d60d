"""Tables of suites, and what is computed over several evaluations."""

import math
from typing import Any

import pytest

from workbench.runs.suites import SuiteResult
from workbench.views.metrics import metric_label
from workbench.views.suite import flattened, suite_views, summaries


def scored(name: str, top1: float, **more: Any) -> SuiteResult:
    """Zero-shot accuracy on 400 images."""
    error = math.sqrt(top1 * (1 - top1) / 400)
    fields = {"suite": "papers", "task": "zero-shot", "data": "x", "identity": "i", "weights_sha256": "w"}
    metrics, errors = {"zero_shot_top1": top1, "zero_shot_top5": 0.9}, {"zero_shot_top1": error, "zero_shot_top5": 0.1}
    return SuiteResult(
        **fields | {"name": name, "num_images": 400, "metrics": metrics, "errors": errors, "chance": {}} | more
    )


RETRIEVAL = {"image_to_text_r1": 0.6, "image_to_text_r5": 0.8, "text_to_image_r1": 0.5}


def test_means_over_sets_have_the_error_of_independent_sets() -> None:
    results = [
        scored("IN", 0.6),
        scored("V2", 0.5, shift_of="IN"),
        scored("R", 0.4, shift_of="IN"),
        scored("COCO", 0, task="retrieval", metrics=RETRIEVAL),
    ]
    every, shifted = summaries(results)
    assert (every.kind, every.of, every.value) == ("zero_shot_mean", ("IN", "V2", "R"), pytest.approx(0.5))
    assert every.error == pytest.approx(math.sqrt((0.24 + 0.25 + 0.24) / 400) / 3)
    assert (shifted.reference, shifted.of, shifted.value) == ("IN", ("V2", "R"), pytest.approx(0.45))
    assert shifted.error == pytest.approx(math.sqrt((0.25 + 0.24) / 400) / 2)


def test_effective_robustness_is_the_distance_to_what_the_reference_predicts() -> None:
    expected = {"slope": 1.2, "intercept": -0.4}
    results = [scored("IN", 0.6), scored("V2", 0.5, shift_of="IN", expected=expected)]
    (found,) = (one for one in summaries(results) if one.kind == "effective_robustness")

    def predicted(accuracy: float) -> float:
        return 1 / (1 + math.exp(-(1.2 * math.log(accuracy / (1 - accuracy)) - 0.4)))

    assert found.value == pytest.approx(0.5 - predicted(0.6))
    slope = (predicted(0.6 + 1e-6) - predicted(0.6 - 1e-6)) / 2e-6
    assert found.error == pytest.approx(math.sqrt(0.25 / 400 + slope**2 * 0.24 / 400), rel=1e-5)
    certain = [scored("IN", 1.0), scored("V2", 0.5, shift_of="IN", expected=expected)]
    assert [one.value for one in summaries(certain) if one.kind == "effective_robustness"] == [-0.5]
    # Without its reference there is nothing to predict from.
    assert [one.kind for one in summaries(results[1:])] == []


def test_a_table_shows_the_headlines_once_per_evaluation() -> None:
    retrieval = scored("COCO", 0, task="retrieval", metrics=RETRIEVAL, errors={"image_to_text_r1": 0.02})
    probe = scored("probe", 0, task="linear-probe", metrics={"linear_probe_4": 0.5, "linear_probe_all": 0.7}, errors={})
    (view,) = suite_views([scored("IN", 0.6, chance={"zero_shot_top1": 0.001}), retrieval, probe])
    assert view.table() == [
        ["IN", "zero-shot top-1 (%)", "60.0", "± 2.4", "0.1", "400"],
        ["COCO", "image→text R@1 (%)", "60.0", "± 2.0", "", "400"],
        ["", "text→image R@1 (%)", "50.0", "", "", ""],
        ["probe", "4-shot linear probe (%)", "50.0", "", "", "400"],
        ["", "linear probe (%)", "70.0", "", "", ""],
    ]
    metrics, errors = flattened([scored("IN", 0.6), retrieval])
    assert list(metrics) == ["IN/zero_shot_top1", "COCO/image_to_text_r1", "COCO/text_to_image_r1"]
    assert errors.keys() == {"IN/zero_shot_top1", "COCO/image_to_text_r1"}
    label = metric_label("IN/zero_shot_top1")
    assert (label.title, label.number(0.5), label.higher_is_better) == ("IN: zero-shot top-1 (%)", "50.0", True)


def test_results_of_several_checkpoints_are_tables_of_their_own() -> None:
    views = suite_views([scored("IN", 0.6, step=40), scored("V2", 0.5, step=80), scored("IN", 0.6, suite="mine")])
    assert [view.name for view in views] == ["papers, step 40", "papers, step 80", "mine"]
