import json
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_tour_finds_a_gain_at_every_seed_and_clear_of_its_interval(workbench) -> None:
    """The whole tour, as a newcomer runs it: minutes."""
    result = workbench("demo", "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    for way in ("image_to_text_r1", "text_to_image_r1"):
        gain = document["gain"][way]
        assert len(gain["per_seed"]) == 3
        assert min(gain["per_seed"]) > 0
        assert gain["low"] > 0
    models = [(row["model"], row["seed"]) for row in document["rows"]]
    assert models == [("teacher", None), *((model, seed) for seed in range(3) for model in ("baseline", "clip-kd"))]
    baseline, distilled = document["rows"][1], document["rows"][2]
    assert baseline["num_params"] == distilled["num_params"]
    assert {"zero_shot_top1", "image_to_text_r5", "cka", "affinity_kl"} <= distilled["metrics"].keys()
    assert Path(document["figure"]).stat().st_size > 10_000
    listed = json.loads(workbench("runs", "list", "--json").out)["runs"]
    assert len(listed) == 6
    assert {run["state"] for run in listed} == {"finished"}


def test_fewer_than_two_seeds_have_no_interval(workbench) -> None:
    result = workbench("demo", "--seeds", "1")
    assert result.code == 2
    assert "--seeds" in result.err


@pytest.mark.slow
def test_several_recipes_give_a_table_of_gains(workbench) -> None:
    result = workbench("demo", "--recipe", "crd", "--recipe", "afd", "--seeds", "2", "--steps", "2")
    assert result.code == 0, result.err
    rows = {line.split()[0]: line for line in result.out.splitlines() if line.strip()}
    assert {"teacher", "baseline", "crd", "afd"} <= rows.keys()
    assert " to " in rows["crd"]
    assert " to " not in rows["baseline"]
    document = json.loads(
        workbench("demo", "--recipe", "crd", "--recipe", "afd", "--seeds", "2", "--steps", "1", "--json").out
    )
    assert document["gains"].keys() == {"crd", "afd"}
    assert document["gain"] == document["gains"]["crd"]
