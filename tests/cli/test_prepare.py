"""``workbench data prepare``: making, listing, using and removing prepared data."""

import json
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))


def test_data_are_prepared_listed_and_removed(workbench) -> None:
    first = workbench("data", "prepare", "samples:scenes", "--pairs", "30")
    assert first.code == 0, first.err
    assert "samples:scenes/train, first 30: prepared: 30 pairs as pixels, 22" in first.out
    assert "already prepared" in workbench("data", "prepare", "samples:scenes", "--pairs", "30").out
    document = json.loads(workbench("data", "prepare", "samples:emoji/test", "--keep", "jpeg", "--json").out)
    [store] = document["stores"]
    assert store["is_new"]
    assert (store["data"], store["keep"]) == ("samples:emoji/test", "jpeg")

    listed = json.loads(workbench("data", "prepare", "--list", "--json").out)
    assert [(one["data"], one["num_pairs"]) for one in listed["stores"]] == [
        ("samples:emoji/test", store["num_pairs"]),
        ("samples:scenes/train, first 30", 30),
    ]
    assert listed["size_bytes"] == sum(one["size_bytes"] for one in listed["stores"])
    assert "samples:emoji/test" in workbench("data", "prepare", "--list").out

    assert "removed 1 prepared data set, " in workbench("data", "prepare", "samples:scenes", "--remove").out
    assert "removed 1 " in workbench("data", "prepare", "--remove").out
    assert "nothing is prepared in" in workbench("data", "prepare", "--list").out


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ([], "name the data"),
        (["nowhere.tar"], "no such data 'nowhere.tar'"),
        (["samples:scenes", "--keep", "pixel"], "did you mean 'pixels'"),
        (["samples:scenes", "--keep", "jpeg", "--working-size", "64"], "drop --working-size"),
        (["--list", "--remove"], "only one of --list and --remove"),
        (["--list", "--pairs", "7"], "takes no other option"),
        (["samples:emoji", "--remove"], "nothing is prepared for 'samples:emoji'"),
    ],
)
def test_bad_input_is_one_line(workbench, arguments: list[str], remedy: str) -> None:
    result = workbench("data", "prepare", *arguments)
    assert result.code == 2
    assert remedy in result.err
    assert len(result.err.splitlines()) == 1
    assert result.out == ""


def test_a_run_prepares_by_itself_and_ends_with_the_same_weights(workbench, tiny_recipe: str) -> None:
    found = {}
    for kept in ("off", "auto", "jpeg", "pixels"):
        result = workbench(
            "train",
            "--recipe",
            tiny_recipe,
            "--name",
            kept,
            "--set",
            f"data.prepare={kept}",
            "--set",
            "data.views=2",
            "--json",
        )
        assert result.code == 0, result.err
        found[kept] = json.loads(result.out)
        stores = json.loads(workbench("data", "prepare", "--list", "--json").out)["stores"]
        assert {one["data"] for one in stores} == (
            set() if kept == "off" else {"samples:scenes/train, first 60", "samples:scenes/validation, first 40"}
        )
    assert len({document["weights_sha256"] for document in found.values()}) == 1
    assert len({json.dumps(document["metrics"]) for document in found.values()}) == 1


def test_a_working_size_that_blurs_is_refused(workbench, tiny_recipe: str) -> None:
    result = workbench("train", "--recipe", tiny_recipe, "--set", "data.working_size=12")
    assert result.code == 2
    assert "set it to 16 or more" in result.err
