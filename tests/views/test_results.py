import json
import math

import pytest

from workbench.statistics.intervals import Gain
from workbench.views.results import ResultRow, paired_view, results_view

ROWS = [
    ResultRow("teacher", None, {"cka": 1.0, "image_to_text_r1": 0.85}, {"image_to_text_r1": 0.011}),
    ResultRow("baseline", 0, {"image_to_text_r1": 0.30, "cka": 0.4}, {"image_to_text_r1": 0.03}, {"blocks": 9}),
    ResultRow("baseline", 1, {"image_to_text_r1": 0.34, "cka": 0.5}, {"image_to_text_r1": 0.01}, {"blocks": 9}),
    ResultRow("baseline", 2, {"image_to_text_r1": 0.35, "zzz": 2.0}),
]


def test_rows_are_gathered_by_model_in_a_fixed_order_of_columns() -> None:
    view = results_view(ROWS)
    assert [column.name for column in view.columns] == ["image_to_text_r1", "cka", "zzz"]
    assert [(model.model, model.num_seeds) for model in view.models] == [("teacher", 1), ("baseline", 3)]
    assert view.models[1].num_params == {"blocks": 9}


def test_a_cell_has_mean_spread_over_seeds_and_error_over_items() -> None:
    cells = results_view(ROWS).models[1].cells
    retrieval = cells["image_to_text_r1"]
    assert retrieval.mean == pytest.approx(0.33)
    assert retrieval.spread == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.02**2) / 2))
    assert retrieval.error == pytest.approx(math.sqrt((0.03**2 + 0.01**2) / 2))
    assert retrieval.num_seeds == 3
    assert (cells["cka"].error, cells["cka"].num_seeds) == (None, 2)
    assert (cells["zzz"].spread, cells["zzz"].mean) == (None, 2.0)


def test_cells_are_text_with_their_error() -> None:
    view = results_view(ROWS)
    teacher, baseline = view.models
    retrieval, cka, other = view.columns
    assert view.text(teacher, retrieval) == "85.0 ± 1.1"
    assert view.text(baseline, retrieval) == "33.0 ± 2.2"
    assert view.text(baseline, cka) == "0.45"
    assert view.text(teacher, other) == "\N{EN DASH}"


def test_a_row_is_json() -> None:
    assert json.loads(json.dumps(ROWS[1].to_json())) == {
        "model": "baseline",
        "seed": 0,
        "metrics": {"image_to_text_r1": 0.30, "cka": 0.4},
        "errors": {"image_to_text_r1": 0.03},
        "num_params": {"blocks": 9},
    }


def test_two_rows_of_one_seed_are_refused() -> None:
    with pytest.raises(ValueError, match="baseline has two rows of seed 1"):
        results_view([*ROWS, ROWS[2]])


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


def test_unpaired_seeds_are_refused() -> None:
    both = [*rows("a", {0: 0.3, 1: 0.3}), *rows("b", {0: 0.5, 2: 0.5})]
    with pytest.raises(ValueError, match="a and b do not have text_to_image_r1 at the same seeds"):
        paired_view(both, "text_to_image_r1", "a", "b", GAIN)
    with pytest.raises(ValueError, match="do not have cka"):
        paired_view(both, "cka", "a", "b", GAIN)
