"""``workbench teacher cache`` and ``--cache-teacher``."""

import json
import shlex

import pytest

from workbench.cli.teacher_cache import _readers, with_cache
from workbench.engine.teacher_cache.manifest import remove_all


@pytest.fixture(autouse=True)
def _no_caches() -> None:
    remove_all()


def test_a_cache_is_made_listed_read_and_removed(workbench, tiny_recipe: str) -> None:
    made = workbench("teacher", "cache", "--recipe", tiny_recipe, "--set", "data.views=2", "--json")
    assert made.code == 0, made.err
    assert "there is none yet; building it takes 23 kB" in made.err
    document = json.loads(made.out)
    assert (document["num_pairs"], document["views"], document["dtype"]) == (60, 2, "float32")
    assert document["num_built"] == document["num_blocks"] == 1
    assert document["num_held_out"] == {"validation": 40}
    again = workbench("teacher", "cache", "--recipe", tiny_recipe, "--set", "data.views=2")
    assert "making" not in again.err
    assert f"workbench train --recipe {tiny_recipe} --set data.views=2" in again.out
    listing = json.loads(workbench("teacher", "cache", "--list", "--json").out)
    assert [one["id"] for one in listing["caches"]] == [document["id"]]
    ends = {}
    for mode in ("off", "auto", "on"):
        arguments = ["--recipe", tiny_recipe, "--set", "data.views=2", "--cache-teacher", mode, "--json"]
        ends[mode] = json.loads(workbench("train", *arguments).out)["weights_sha256"]
    assert len(set(ends.values())) == 1
    listed = workbench("teacher", "cache", "--list").out
    assert "23 kB" in listed and "all" in listed
    assert "removed 1 teacher cache, 23 kB" in workbench("teacher", "cache", "--remove", document["id"][:6]).out
    assert "no teacher cache in" in workbench("teacher", "cache", "--list").out


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ([], "--recipe NAME to make a cache, --list, or --remove ID"),
        (["--list", "--remove", "all"], "give one of"),
        (["--seed", "1"], "workbench teacher cache --recipe NAME"),
        (["--recipe", "clip-kd", "--set", "data.views=0"], "--set data.views=3"),
        (["--recipe", "clip-kd", "--dtype", "float6"], "did you mean 'float16'"),
        (["--remove", "zzz"], "unknown teacher cache"),
    ],
)
def test_bad_input_is_one_line(workbench, arguments: list[str], remedy: str) -> None:
    result = workbench("teacher", "cache", *arguments)
    assert (result.code, result.out) == (2, "")
    assert remedy in result.err
    assert result.err.count("\n") == 1


def test_the_command_that_reads_a_cache_has_all_that_it_was_made_with() -> None:
    read = _readers("my recipe.toml", ["data.train=a b.csv", "data.views=2"], 3, "float16")
    assert shlex.join(read) == (
        "workbench train --recipe 'my recipe.toml' --seed 3 --cache-teacher on --set 'data.train=a b.csv' "
        "--set data.views=2 --set teacher.cache_dtype=float16"
    )


def test_the_option_is_a_setting() -> None:
    assert with_cache(None, None) is None
    assert with_cache(["a=1"], "on") == ["a=1", "teacher.cache=on"]
    with pytest.raises(ValueError, match="did you mean 'auto'"):
        with_cache(None, "autos")
