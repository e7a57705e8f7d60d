import json
import shlex
import tomllib
from pathlib import Path

import pytest

from workbench.cli.caches import _readers
from workbench.cli.train import with_cache
from workbench.data.cached.prepare import CachePolicy, cached
from workbench.data.spec import open_dataset
from workbench.embeddings import InputSpec
from workbench.engine.teacher_cache.manifest import remove_all
from workbench.models.tokenizers import named_tokenizer


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
        ([], "SPEC to prepare data, --list, or --remove"),
        (["nowhere.tar"], "no such data 'nowhere.tar'"),
        (["samples:scenes", "--keep", "pixel"], "did you mean 'pixels'"),
        (["samples:scenes", "--keep", "jpeg", "--working-size", "64"], "drop --working-size"),
        (["--list", "--remove"], "give one of: SPEC"),
        (["--list", "--pairs", "7"], "take no other option"),
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
    held_out = "samples:scenes/validation, first 40"
    views = "samples:scenes/train, first 60, 2 views of 16 px, data seed 0"
    for kept in ("off", "auto", "jpeg", "pixels", "views"):
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
        training = {"jpeg": {"samples:scenes/train, first 60"}, "pixels": {"samples:scenes/train, first 60"}}
        assert {one["data"] for one in stores} == (
            set() if kept == "off" else {held_out, *training.get(kept, {views})}
        ), kept
        assert workbench("data", "prepare", "--remove").code == 0
    assert len({document["weights_sha256"] for document in found.values()}) == 1
    assert len({json.dumps(document["metrics"]) for document in found.values()}) == 1


def test_views_of_a_mixture_are_removed_by_its_spec(workbench) -> None:
    spec = "samples:scenes*2 + samples:emoji*1"
    form = InputSpec(16, named_tokenizer("words:scenes", 20), "words:scenes")
    cached(open_dataset(spec, "train", 30), CachePolicy("views", num_reads=99, input_specs=(form,), num_views=2))
    [listed] = json.loads(workbench("data", "prepare", "--list", "--json").out)["stores"]
    assert (listed["data"], listed["keep"]) == (f"{spec}, first 30, 2 views of 16 px, data seed 0", "views")
    assert listed["size_bytes"] > 30 * 2 * 16 * 16 * 3
    assert workbench("data", "prepare", "samples:scenes", "--remove").code == 2
    assert "removed 1 prepared data set" in workbench("data", "prepare", spec, "--remove").out


def test_a_working_size_that_blurs_is_refused(workbench, tiny_recipe: str) -> None:
    result = workbench("train", "--recipe", tiny_recipe, "--set", "data.working_size=12")
    assert result.code == 2
    assert "set it to 16 or more" in result.err


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


def test_each_of_several_teachers_has_a_cache_of_its_own(workbench, tiny_recipe: str, tiny_models) -> None:
    """A JSON list on the command line; the cache of one serves every run with that teacher."""
    both = ["--set", f'teacher.model=["sample:scenes", "{tiny_models["teacher"]}*3"]', "--set", "data.views=2"]
    document = json.loads(workbench("teacher", "cache", "--recipe", tiny_recipe, *both, "--json").out)
    assert [one["teacher"] for one in document["caches"]] == ["sample:scenes", tiny_models["teacher"]]
    assert document["num_held_out"] == {"validation": 40}
    trained = workbench("train", "--recipe", tiny_recipe, *both, "--name", "both", "--steps", "2", "--json")
    assert trained.code == 0, trained.err
    assert "teacher cache" not in trained.err  # none is built
    recorded = tomllib.loads(Path("runs/both/run.toml").read_text())["teacher"]["model"]
    assert recorded == f"sample:scenes + {tiny_models['teacher']}*3.0"
    refused = workbench("train", "--recipe", tiny_recipe, "--set", "teacher.model=sample:scenes + nowhere.pt")
    assert (refused.code, "no weights at nowhere.pt" in refused.err) == (2, True)
    listed = json.loads(workbench("teacher", "cache", "--list", "--json").out)["caches"]
    assert {one["id"] for one in listed} >= {one["id"] for one in document["caches"]}
    workbench("teacher", "cache", "--remove", "all")


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
def test_bad_input_of_teacher_cache_is_one_line(workbench, arguments: list[str], remedy: str) -> None:
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
