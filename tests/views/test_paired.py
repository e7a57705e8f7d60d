import math

import pytest

from workbench.statistics.intervals import Gain
from workbench.views.paired import paired_view
from workbench.views.results import ResultRow

GAIN = Gain(0.144, 0.0617, 0.226, (0.1, 0.188), "seeds and items")


def rows(model: str, values: dict[int | None, float], metric: str = "text_to_image_r1") -> list[ResultRow]:
    return [ResultRow(model, seed, {metric: value}) for seed, value in values.items()]


def test_values_are_joined_by_seed() -> None:
    view = paired_view(
        [
            *rows("teacher", {None: 0.9}),
            *rows("baseline", {2: 0.3, 1: 0.2}),
            *rows("clip-kd", {1: 0.4, 2: 0.45}),
        ],
        "text_to_image_r1",
        "baseline",
        "clip-kd",
        GAIN,
    )
    assert view.seed_S == (1, 2)
    assert view.baseline_S.tolist() == [0.2, 0.3]
    assert view.treated_S.tolist() == [0.4, 0.45]


def test_the_gain_reads_in_points_or_in_the_metrics_unit() -> None:
    both = [*rows("a", {0: 0.3}), *rows("b", {0: 0.5})]
    view = paired_view(both, "text_to_image_r1", "a", "b", GAIN)
    assert (view.gain_text, view.interval_text) == ("+14.4 points", "95 %: +6.2 to +22.6")
    nats = [*rows("a", {0: 0.3}, "affinity_kl"), *rows("b", {0: 0.1}, "affinity_kl")]
    unknown = Gain(-0.2, -math.inf, math.inf, (-0.2,), "seeds")
    view = paired_view(nats, "affinity_kl", "a", "b", unknown)
    assert view.gain_text == "\N{MINUS SIGN}0.20 nats"
    assert view.interval_text == "95 %: \N{EN DASH} to \N{EN DASH}"


def test_seeds_that_do_not_pair_are_an_error() -> None:
    both = [*rows("a", {0: 0.3, 1: 0.3}), *rows("b", {0: 0.5, 2: 0.5})]
    with pytest.raises(ValueError, match="a and b do not have text_to_image_r1 at the same seeds"):
        paired_view(both, "text_to_image_r1", "a", "b", GAIN)
    with pytest.raises(ValueError, match="do not have cka"):
        paired_view(both, "cka", "a", "b", GAIN)
