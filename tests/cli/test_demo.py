import json
from pathlib import Path

import pytest

from workbench import demo
from workbench.config.toml import load_recipe, load_run_config


@pytest.fixture
def short_tour(monkeypatch, tiny_models) -> None:
    """The tour on models and sets of pairs that take a second."""
    models = [f"student.model={tiny_models['student']}", f"teacher.model={tiny_models['teacher']}"]
    numbers = [f"data.num_{name}=60" for name in ("pairs", "validation_pairs", "test_pairs")]
    overrides = [*models, *numbers, "train.batch_size=20", "data.prepare=off"]
    monkeypatch.setattr(
        demo, "load_recipe", lambda recipe, settings, **given: load_recipe(recipe, [*settings, *overrides], **given)
    )


@pytest.mark.usefixtures("short_tour")
def test_the_table_has_a_row_for_every_metric_and_for_the_weights(workbench) -> None:
    result = workbench("demo", "--seeds", "2", "--steps", "3")
    assert result.code == 0, result.err
    rows = {line[:22].strip(): line.split() for line in result.out.splitlines()}
    assert rows["mean of 2 seeds"][4:] == ["teacher", "baseline", "clip-kd", "gain", "95", "%", "interval"]
    for metric in ("zero-shot top-1 (%)", "image→text R@1 (%)", "text→image R@1 (%)", "affinity KL (nats)"):
        assert rows[metric][-2] == "to"
    assert len(rows["weights, blocks"]) == 2 + 3
    assert "60 held-out pairs" in result.out
    (chance,) = [line for line in result.out.splitlines() if line.startswith("Chance: ")]
    assert "image→text R@1 (%) 1.7" in chance  # one of 60, or a little more where captions are shared
    assert "What to try next" in result.out


@pytest.mark.usefixtures("short_tour")
def test_several_recipes_have_a_table_a_metric(workbench) -> None:
    result = workbench("demo", "--recipe", "crd", "--recipe", "fd", "--seeds", "2", "--steps", "3")
    assert result.code == 0, result.err
    assert [line.split()[0] for line in result.out.splitlines() if line[:1].isalpha()][:5] == [
        "mean", "teacher", "baseline", "crd", "fd"
    ]  # fmt: skip


@pytest.mark.usefixtures("short_tour")
def test_settings_are_those_of_every_student(workbench) -> None:
    result = workbench("demo", "--seeds", "2", "--steps", "3", "--set", "optimizer.learning_rate=1e-4", "--json")
    assert result.code == 0, result.err
    runs = json.loads(workbench("runs", "list", "--json").out)["runs"]
    configs = [load_run_config(Path("runs") / run["id"] / "run.toml") for run in runs]
    assert {config.optimizer.learning_rate for config in configs} == {1e-4}
    assert {(config.train.num_steps, config.data.views) for config in configs} == {(3, 2)}


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
        assert min(gain["per_seed"]) > 0.25
        assert gain["low"] > 0.2
    distilled = [row["metrics"] for row in document["rows"] if row["model"] == "clip-kd"]
    assert sum(row["image_to_text_r1"] for row in distilled) / 3 > 0.35
    assert min(row["zero_shot_top1"] for row in distilled) > 5 * document["chance"]["zero_shot_top1"]
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
