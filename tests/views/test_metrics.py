import math

import pytest

from workbench.views.metrics import METRIC_LABELS, in_order, metric_label

SURFACE = [
    "zero_shot_top1",
    "image_to_text_r1",
    "image_to_text_r5",
    "image_to_text_r10",
    "text_to_image_r1",
    "text_to_image_r5",
    "text_to_image_r10",
    "similarity_single",
    "similarity_cross",
    "cka",
    "affinity_kl",
]


def test_every_documented_metric_has_a_label() -> None:
    assert set(SURFACE) <= set(METRIC_LABELS)
    assert all(METRIC_LABELS[name].name == name for name in METRIC_LABELS)
    assert len({metric.label for metric in METRIC_LABELS.values()}) == len(METRIC_LABELS)


def test_only_divergence_is_better_low() -> None:
    assert [name for name in SURFACE if not METRIC_LABELS[name].higher_is_better] == ["affinity_kl"]


@pytest.mark.parametrize(
    ("name", "value", "signed", "text"),
    [
        ("image_to_text_r1", 0.4567, False, "45.7"),
        ("image_to_text_r1", 0.0321, True, "+3.2"),
        ("cka", -0.014, False, "\N{MINUS SIGN}0.01"),
        ("affinity_kl", 1.5, False, "1.50"),
        ("cka", None, False, "\N{EN DASH}"),
        ("cka", math.nan, False, "\N{EN DASH}"),
        ("cka", -math.inf, True, "\N{EN DASH}"),
    ],
)
def test_numbers_are_shown_in_the_metrics_unit(name: str, value: float | None, signed: bool, text: str) -> None:
    assert metric_label(name).number(value, signed=signed) == text


def test_titles_name_the_unit() -> None:
    assert metric_label("text_to_image_r5").title == "text→image R@5 (%)"
    assert metric_label("cka").title == "linear CKA"


def test_an_unknown_metric_is_labeled_by_its_name_and_comes_last() -> None:
    label = metric_label("my_own_score")
    assert (label.label, label.unit, label.higher_is_better) == ("my own score", "", None)
    assert in_order({"b_score", "cka", "a_score", "zero_shot_top1"}) == [
        "zero_shot_top1",
        "cka",
        "a_score",
        "b_score",
    ]


def test_the_ends_of_a_means_interval_stay_within_the_metrics_range() -> None:
    recall, cosine, loss = (metric_label(name) for name in ("image_to_text_r1", "similarity_single", "loss_scratch"))
    assert recall.interval(-0.012, 0.034) == "0.0 to 3.4"
    assert recall.interval(0.9, 1.1) == "90.0 to 100.0"
    assert recall.interval(-0.012, 0.034, signed=True) == "\N{MINUS SIGN}1.2 to +3.4"
    assert cosine.interval(-1.5, 0.5) == "\N{MINUS SIGN}1.00 to 0.50"
    assert loss.interval(-1.0, 2.0) == "\N{MINUS SIGN}1.000 to 2.000"


def test_an_unknown_interval_is_empty() -> None:
    assert metric_label("cka").interval(math.nan, math.nan) == ""
    assert metric_label("cka").interval(-math.inf, math.inf) == ""


def test_control_characters_in_names_are_escaped() -> None:
    assert metric_label("a\x1b[2J\nb").title == r"a\x1b[2J\nb"
