import json

import pytest
from rich.cells import cell_len

from workbench.losses import LOSSES


def test_losses_translate_published_weights(workbench) -> None:
    document = json.loads(workbench("losses", "--batch", "256", "--dim", "128", "--json").out)
    by_name = {(row["name"], row["convention"]): row for row in document["losses"]}
    assert by_name["fd", "released"]["weight"] == 2000
    assert by_name["fd", "released"]["translated_weight"] == 500
    assert by_name["fd", "paper"]["translated_weight"] == pytest.approx(3.90625)
    assert by_name["crd", "paper"]["weight"] == 0.5


def test_every_loss_is_listed_with_its_settings_even_without_a_published_weight(workbench) -> None:
    document = json.loads(workbench("losses", "--json").out)
    by_name = {row["name"]: row for row in document["losses"]}
    assert by_name.keys() == LOSSES.keys()
    assert by_name["intermediate"]["weight"] is None
    assert by_name["mfd"]["settings"] == {"mask_ratio": 0.25, "mask_feeds": "all"}
    assert by_name["affinity"]["settings"]["scale"] == 50


def test_losses_fit_eighty_columns(workbench, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = workbench("losses").out
    assert max(map(cell_len, out.splitlines())) <= 80
    assert "settings: mask_ratio = 0.25" in out


def test_losses_print_their_equations(workbench) -> None:
    assert "mean_k (‖vᵀ−vˢ‖² + ‖sᵀ−sˢ‖²)" in workbench("losses").out


def test_recipes_have_a_question_each(workbench) -> None:
    recipes = json.loads(workbench("recipes", "--json").out)["recipes"]
    names = "baseline clip-kd crd fd mfd gd icl afd affinity cross_modal single_modal intermediate tinyclip-affinity"
    assert set(names.split()) <= {recipe["name"] for recipe in recipes}
    assert all(recipe["question"].endswith(("?", ".")) for recipe in recipes)
