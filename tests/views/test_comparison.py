"""Differences between runs, and from a paper's settings: all that were measured or stated, and no others."""

import math

import pytest

from workbench.config.toml import load_recipe, recipes
from workbench.views.comparison import ComparedRun, Evaluated, Paper, compare_runs, departures, papers

BASE = {
    "recipe": "baseline",
    "question": "What?",
    "seed": 0,
    "data": {"train": "samples:scenes", "validation": "auto", "views": 3},
    "loss": {"clip": {"weight": 1.0, "weight_at": "published", "file": ""}},
    "evaluate": {"block_size": 1000},
    "machine": {"pid": 1, "torch": "2.15"},
}
FD = {"weight": 2000.0, "weight_at": "published", "file": "", "convention": "released"}


def evaluated(value: float, error: float | None = None, num_pairs: int = 100, step: int = 80) -> dict[str, Evaluated]:
    errors = {} if error is None else {"image_to_text_r1": error}
    return {"validation": Evaluated(step, num_pairs, {"image_to_text_r1": value}, errors)}


def runs(*changes: dict) -> list[ComparedRun]:
    return [ComparedRun(f"run{number}", BASE | change) for number, change in enumerate(changes)]


def test_equal_runs_have_no_differing_settings() -> None:
    machine = {"machine": {"pid": 2, "torch": "2.15"}, "question": "Why?"}  # neither means anything
    comparison = compare_runs(runs({}, machine))
    assert comparison.differing == ()
    assert "data.views" in [setting.name for setting in comparison.settings]
    assert not {"question", "machine.pid"} & {setting.name for setting in comparison.settings}


def test_differing_settings_come_first_in_the_configs_order() -> None:
    other = {"seed": 1, "data": BASE["data"] | {"views": 0}, "machine": {"pid": 2, "torch": "2.16"}}
    comparison = compare_runs(runs({}, other))
    assert [setting.name for setting in comparison.settings][:3] == ["seed", "data.views", "machine.torch"]
    assert [setting.values for setting in comparison.differing] == [(0, 1), (3, 0), ("2.15", "2.16")]


def test_settings_of_an_absent_loss_are_missing_except_defaults() -> None:
    comparison = compare_runs(runs({}, {"loss": BASE["loss"] | {"fd": FD}}))
    differing = {setting.name: setting.values for setting in comparison.differing}
    assert differing == {"loss.fd.weight": (None, 2000.0), "loss.fd.convention": (None, "released")}


def test_a_weight_that_is_a_schedule_is_one_setting() -> None:
    ramp = {"value": 1.0, "ramp_steps": 10}
    comparison = compare_runs(runs({}, {"loss": {"clip": BASE["loss"]["clip"] | {"weight": ramp}}}))
    assert [(setting.name, setting.values) for setting in comparison.differing] == [("loss.clip.weight", (1.0, ramp))]


def test_differences_are_to_the_first_and_their_errors_those_of_independent_measurements() -> None:
    measured = [evaluated(0.1, 0.03), evaluated(0.3, 0.04), evaluated(math.nan, 0.0)]
    comparison = compare_runs([ComparedRun(str(n), BASE, found) for n, found in enumerate(measured)])
    (row,) = comparison.splits[0].rows
    assert row.values == (0.1, 0.3, None)
    assert row.differences == (0.0, pytest.approx(0.2), None)
    assert row.difference_errors == (None, pytest.approx(0.05), pytest.approx(0.03))
    assert comparison.to_json()["splits"]["validation"]["metrics"]["image_to_text_r1"]["values"] == [0.1, 0.3, None]


def test_an_absent_metric_or_split_is_missing() -> None:
    both = evaluated(0.1) | {"test": Evaluated(80, 9, {"cka": 0.5})}
    comparison = compare_runs([ComparedRun("a", BASE, both), ComparedRun("b", BASE, evaluated(0.2))])
    assert [split.split for split in comparison.splits] == ["validation", "test"]
    assert comparison.splits[1].rows[0].values == (0.5, None)
    assert comparison.splits[1].rows[0].differences == (0.0, None)
    assert comparison.splits[1].steps == (80, None)


@pytest.mark.parametrize(
    ("change", "num_pairs", "same"),
    [
        ({}, 100, True),
        ({"data": BASE["data"] | {"train": "samples:scenes/teacher"}}, 100, True),
        ({"data": BASE["data"] | {"validation": "samples:scenes"}}, 100, True),
        ({"data": BASE["data"] | {"train": "samples:emoji"}}, 100, False),
        ({"data": BASE["data"] | {"validation": "held.tar"}}, 100, False),
        ({}, 99, False),
        ({"evaluate": {"block_size": 500}}, 100, False),
    ],
)
def test_the_same_pairs_are_those_of_one_source_number_and_block(change: dict, num_pairs: int, same: bool) -> None:
    two = [ComparedRun("a", BASE, evaluated(0.1)), ComparedRun("b", BASE | change, evaluated(0.1, num_pairs=num_pairs))]
    assert compare_runs(two).splits[0].same_pairs is same


@pytest.mark.parametrize("ids", [["a"], ["a", "a"], ["a", "b", "a"], []])
def test_one_run_is_no_comparison(ids: list[str]) -> None:
    with pytest.raises(ValueError, match="two or more different runs"):
        compare_runs([ComparedRun(run, BASE) for run in ids])


PAPER = Paper("P", "r", 224, {"a.b": "why b", "loss.fd.weight": "why fd", "loss.*.*": "why any"})


def found(published: dict, run: dict) -> list[tuple]:
    return [(one.setting, one.paper, one.run, one.why) for one in departures(PAPER, published, run).departures]


def test_settings_without_a_reason_are_not_compared() -> None:
    compared = departures(PAPER, {"a": {"b": 1, "c": 1}}, {"a": {"b": 2, "c": 2}})
    assert [one.setting for one in compared.departures] == ["a.b"]
    assert compared.num_compared == 1


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), ([0.9, 0.98], (0.9, 0.98)), (0.1, 0.1 + 1e-12), ("x", "x")])
def test_equal_values_do_not_depart(one: object, other: object) -> None:
    assert found({"a": {"b": one}}, {"a": {"b": other}}) == []


def test_the_first_matching_reason_counts() -> None:
    published = {"loss": {"fd": {"weight": 2000, "scale": 1}}}
    assert found(published, {"loss": {"fd": {"weight": 5, "scale": 2}}}) == [
        ("loss.fd.weight", 2000, 5, "why fd"),
        ("loss.fd.scale", 1, 2, "why any"),
    ]


def test_a_loss_that_the_run_does_not_use_is_no_departure() -> None:
    published = {"loss": {"fd": {"weight": 2000}, "crd": {"weight": 1}}}
    assert found(published, {"loss": {"crd": {"weight": 1}}}) == []


def test_a_schedule_is_one_value() -> None:
    ramp = {"value": 2000, "ramp_steps": 9}
    published = {"loss": {"fd": {"weight": 2000}}}
    assert found(published, {"loss": {"fd": {"weight": ramp}}}) == [("loss.fd.weight", 2000, ramp, "why fd")]


def test_every_paper_names_a_recipe_that_departs_from_it_in_nothing() -> None:
    assert [paper.name for paper in papers()] == ["CLIP-KD", "TinyCLIP"]
    for paper in papers():
        assert paper.recipe in recipes()
        settings = load_recipe(paper.recipe).model_dump()
        assert departures(paper, settings, settings).departures == ()


def test_reasons_are_short_and_of_existing_settings() -> None:
    for paper in papers():
        settings = load_recipe(paper.recipe).model_dump()
        for setting, why in paper.why.items():
            part, _, name = setting.partition(".")
            assert part == "loss" or name in ("image_size", "*") or name in settings[part], setting
            assert 10 < len(why) < 100
            assert why[-1] not in ".;:"
