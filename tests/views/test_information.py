"""Bounds on mutual information against brute force in float64 and against pairs whose information is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.events import EvalDone, RunStarted, StepDone
from workbench.views.information import (
    InformationBounds,
    bound,
    information_bounds,
    information_over_time,
    known_answer,
)


def brute(logits: np.ndarray) -> float:
    """log(B − 1) minus the mean of −log softmax, a number at a time."""
    losses = []
    for row in range(len(logits)):
        total = sum(math.exp(float(value) - float(logits[row, row])) for value in logits[row])
        losses.append(math.log(total))
    return math.log(len(logits) - 1) - sum(losses) / len(losses)


@given(st.integers(2, 12), st.floats(0, 30), st.integers(0, 100))
def test_the_bound_equals_brute_force_and_is_at_most_log_n(size: int, scale: float, seed: int) -> None:
    logits = scale * np.random.default_rng(seed).uniform(-1, 1, (size, size))
    others = -logits.T
    found = bound(np.stack([logits, others]))
    assert found == pytest.approx([brute(logits), brute(others)], abs=1e-10)
    assert (found <= math.log(size - 1)).all()


def test_large_scores_do_not_overflow() -> None:
    assert bound(np.eye(5)[None] * 1e4) == pytest.approx(math.log(4))


def test_sizes_double_up_to_half_of_the_pairs_and_each_is_the_mean_of_draws_from_them() -> None:
    rows, columns = np.random.default_rng(1).normal(size=(2, 12, 4))
    found = information_bounds(rows, columns, 0.7, num_draws=4000)
    assert found.num_negatives_N.tolist() == [1, 2, 4]
    generator = np.random.default_rng(2)
    for place, negatives in enumerate(found.num_negatives_N.tolist()):
        draws = [generator.permutation(12)[: negatives + 1] for _ in range(4000)]
        values = [brute(0.7 * rows[chosen] @ columns[chosen].T) for chosen in draws]
        error = np.std(values) * math.sqrt(2 / 4000)
        assert found.mean_N[place] == pytest.approx(np.mean(values), abs=4 * error)


def test_an_interval_matches_batches_of_an_infinite_population() -> None:
    spans = []
    for seed in range(12):
        rows = np.random.default_rng(seed).normal(size=(64, 3))
        columns = rows + np.random.default_rng(seed + 100).normal(size=(64, 3))
        found = information_bounds(rows, columns, 1.0, num_draws=200)
        spans.append(found.high_N[-1] - found.low_N[-1])
    fresh: list[float] = []
    for seed in range(600):
        rows = np.random.default_rng(1000 + seed).normal(size=(33, 3))
        columns = rows + np.random.default_rng(9000 + seed).normal(size=(33, 3))
        fresh += bound((rows @ columns.T)[None]).tolist()
    low, high = np.percentile(fresh, (2.5, 97.5))
    assert np.mean(spans) == pytest.approx(high - low, rel=0.2)


def test_known_information_is_recovered_with_enough_negatives_and_capped_with_few() -> None:
    few, many = (information_bounds(*known_answer(nats, 1200), 1.0) for nats in (2.0, 9.0))
    assert few.mean_N[-1] == pytest.approx(2.0, abs=0.15)
    assert (few.mean_N <= 2.0 + 0.05).all()
    assert few.saturates_at is not None
    assert many.saturates_at is None
    assert many.most_N[-1] - 0.6 < many.mean_N[-1] < many.most_N[-1] < 9


def test_known_pairs_are_correlated_as_their_information_says() -> None:
    rows, columns = known_answer(3.0, 40_000, width=2)
    square = np.corrcoef(rows[:, 0], columns[:, 0])[0, 1] ** 2
    assert -math.log(1 - square) == pytest.approx(3.0, rel=0.03)
    assert np.std(columns[:, 0]) == pytest.approx(1.0, rel=0.02)


def test_saturation_is_where_the_slope_falls_below_half() -> None:
    def where(*means: float) -> int | None:
        mean_N = np.array(means)
        return InformationBounds(2 ** np.arange(len(means)), mean_N, mean_N, mean_N).saturates_at

    half = math.log(2) / 2
    assert where(0, 1.1 * half, 2.2 * half, 2.5 * half, 2.6 * half) == 4
    assert where(0, 1.1 * half, 2.2 * half) is None
    assert where(0, 0, 0) == 1
    assert where(0) is None


def test_too_few_or_unpaired_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 complete pairs"):
        information_bounds(np.ones((2, 2)), np.ones((2, 2)), 1.0)
    with pytest.raises(ValueError, match="4 rows, 5 columns"):
        information_bounds(np.ones((4, 2)), np.ones((5, 2)), 1.0)


def events(icl: bool = True) -> list:
    numbers = dict.fromkeys(("learning_rate", "grad_norm", "step_time_s", "pairs_per_s", "elapsed_s", "peak_mb"), 1.0)
    sizes = {"num_pairs": 500, "num_parameters": 1, "num_embedding_parameters": 1}
    metrics = {"mutual_information_image": 1.5, "mutual_information_text": 2.5} if icl else {"cka": 1.0}
    terms = {"icl": 4.0} if icl else {"fd": 1.0}
    return [
        RunStarted(run="r", step=0, num_steps=9, batch_size=100, host="h", pid=1, **sizes),
        StepDone(run="r", step=3, loss=1.0, terms=terms, weighted=terms, scales={}, **numbers),
        EvalDone(run="r", step=3, split="validation", num_pairs=1700, metrics=metrics, elapsed_s=1.0),
        EvalDone(run="r", step=3, split="test", num_pairs=9, metrics=dict.fromkeys(metrics, 9.0), elapsed_s=1.0),
    ]


def test_bounds_are_on_training_batches_and_on_validation_pairs() -> None:
    view = information_over_time(events(), [1000, 700])
    assert view is not None
    assert view.training.value.tolist() == [pytest.approx(math.log(99) - 4)]
    assert {side: series.value.tolist() for side, series in view.held_out.items()} == {"image": [1.5], "text": [2.5]}
    assert view.held_out_most == pytest.approx((1000 * math.log(999) + 700 * math.log(699)) / 1700)
    assert (view.training_most, view.held_out_pairs, view.batch_size) == (pytest.approx(math.log(99)), 1700, 100)


def test_a_run_without_icl_has_none() -> None:
    assert information_over_time(events(icl=False), [1000]) is None
    assert information_over_time([], []) is None
