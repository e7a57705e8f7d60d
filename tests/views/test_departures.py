"""A departure is a setting that the paper states and the run has otherwise; nothing else is."""

import pytest

from workbench.config.toml import load_recipe, recipes
from workbench.views.departures import Paper, departures, papers

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
