import json

import pytest

CHANGES = ["--set", "loss.fd.convention=released", "--set", "loss.fd.weight=2000", "--set", "data.views=0"]


def departures(workbench, *changes: str, recipe: str) -> list[dict]:
    assert workbench("train", "--recipe", recipe, "--name", "one", *changes).code == 0
    return json.loads(workbench("runs", "show", "one", "--departures", "--json").out)["departures"]


def by_setting(document: dict) -> dict[str, tuple]:
    return {found["setting"]: (found["paper"], found["run"]) for found in document["settings"]}


def test_a_run_departs_from_the_paper_whose_losses_it_uses(workbench, tiny_recipe: str) -> None:
    (found,) = departures(workbench, *CHANGES, recipe=tiny_recipe)
    assert found["paper"] == "CLIP-KD"
    settings = by_setting(found)
    assert settings["train.batch_size"] == (1024, 20)
    assert settings["student.image_size"] == (224, 16)
    assert settings["loss.icl.convention"] == ("released", "paper")  # the default
    assert "teacher.model" in settings
    assert not settings.keys() & {"loss.fd.weight", "loss.fd.convention", "data.views", "optimizer.learning_rate"}
    assert all(departure["why"] for departure in found["settings"])
    out = workbench("runs", "show", "one", "--departures").out
    assert "train.batch_size: 1024 in the paper, 20 here\n    each pair has all others as negatives" in out
    assert f"{found['num_compared'] - len(settings)} of {found['num_compared']} settings are as in the paper" in out


def test_a_loss_that_the_unified_recipe_leaves_out_has_its_published_weight(workbench, tiny_recipe: str) -> None:
    changes = ["loss.gd.weight=1e8", "loss.gd.convention=released", "loss.mfd.weight=1", "loss.mfd.mask_ratio=0.5"]
    (found,) = departures(workbench, *(word for one in changes for word in ("--set", one)), recipe=tiny_recipe)
    settings = by_setting(found)
    assert settings["loss.mfd.weight"] == (2000, 1)
    assert settings["loss.mfd.mask_ratio"] == (0.25, 0.5)
    assert not any(name.startswith("loss.gd.") for name in settings)


def test_losses_of_both_papers_depart_from_both(workbench, tiny_recipe: str) -> None:
    changes = ["--set", "loss.affinity.weight=1", "--set", "loss.affinity.scale=20"]
    clip_kd, tinyclip = departures(workbench, *changes, recipe=tiny_recipe)
    assert not any("affinity" in name for name in by_setting(clip_kd))
    assert by_setting(tinyclip)["loss.affinity.scale"] == (50, 20)
    assert by_setting(tinyclip)["loss.clip.weight"] == (0, 1)


@pytest.mark.parametrize("weight", ["0", "{ value = 0.0 }"])
def test_a_baseline_departs_from_clip_kds_and_has_no_teacher(workbench, tiny_recipe: str, weight: str) -> None:
    off = [word for loss in ("crd", "fd", "icl") for word in ("--set", f"loss.{loss}.weight={weight}")]
    (found,) = departures(workbench, *off, recipe=tiny_recipe)
    assert found["paper"] == "CLIP-KD"
    assert not any(name.startswith(("teacher.", "loss.")) for name in by_setting(found))
