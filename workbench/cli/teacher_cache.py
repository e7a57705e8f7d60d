"""``workbench teacher cache``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.completion import complete_recipe
from workbench.cli.options import DEFAULT_RUNS, RECIPE_HELP, Json, Overrides, RunsDir, Seed, Trust

if TYPE_CHECKING:
    from workbench.engine.teacher_cache.store import Listed

DTYPES = ("float32", "float16")
MODES = ("auto", "on", "off")
CacheTeacher = Annotated[
    str | None,
    typer.Option(
        "--cache-teacher",
        metavar="|".join(MODES),
        help="Read the teacher's embeddings from disk: on makes them first; auto where that pays. As teacher.cache.",
    ),
]


def cache(
    recipe: Annotated[str | None, typer.Option("--recipe", help=RECIPE_HELP, autocompletion=complete_recipe)] = None,
    overrides: Overrides = None,
    seed: Seed = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="float32 (the default), or float16: half the size.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Show what is cached.")] = False,
    removing: Annotated[
        str | None, typer.Option("--remove", metavar="ID|all", help="Remove a cache, or all of them.")
    ] = None,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
    json: Json = False,
) -> None:
    """Keep the teacher's embeddings of every view of a recipe's training pairs.

    Runs with the same pairs, data.seed, data.views, crops and teacher find them
    by themselves, and then neither decode pictures for the teacher nor run it.
    In float32 no weight changes by it. float16 is read by runs that ask for it
    with --cache-teacher on --set teacher.cache_dtype=float16.

    What was stopped goes on where it was; what is damaged is made anew.

    Examples:

        workbench teacher cache --recipe clip-kd

        workbench teacher cache --recipe clip-kd --seed 1 --dtype float16

        workbench teacher cache --list

        workbench teacher cache --remove all
    """
    makes = recipe is not None or overrides or seed is not None or dtype is not None
    if sum(map(bool, (makes, listing, removing))) != 1:
        raise ValueError("name one of: --recipe NAME to make a cache, --list, or --remove ID")
    if listing:
        _list(json)
    elif removing:
        _remove(removing, json)
    elif recipe is None:
        raise ValueError("name whose teacher and pairs: workbench teacher cache --recipe NAME")
    else:
        _make(recipe, overrides, seed, dtype, runs, json)


def with_cache(overrides: list[str] | None, cache_teacher: str | None) -> list[str] | None:
    """The overrides with what ``--cache-teacher`` says."""
    if cache_teacher is None:
        return overrides
    from workbench.errors import unknown

    if cache_teacher not in MODES:
        raise unknown("way to cache the teacher", cache_teacher, MODES)
    return [*(overrides or []), f"teacher.cache={cache_teacher}"]


def _make(
    recipe: str, overrides: list[str] | None, seed: int | None, dtype: str | None, runs: Path, json: bool
) -> None:
    from workbench.cli.output import print_json, print_line
    from workbench.config.toml import load_recipe
    from workbench.engine.precheck import check_config
    from workbench.engine.teacher_cache.store import listed
    from workbench.errors import unknown
    from workbench.formatting import size

    if dtype is not None and dtype not in DTYPES:
        raise unknown("dtype of a teacher cache", dtype, DTYPES)
    chosen = [] if dtype is None else [f"teacher.cache_dtype={dtype}"]
    config = load_recipe(recipe, [*(overrides or []), "teacher.cache=on", *chosen], seed=seed)
    check_config(config, runs)
    from workbench.engine.teacher_cache.prepare import prepare_cache

    prepared = prepare_cache(config, runs)
    (one,) = (one for one in listed() if one.folder == prepared.cache.folder)
    if json:
        print_json(_document(one) | {"num_held_out": prepared.num_held_out})
        return
    identity = one.manifest.identity
    what = f"{identity.num_pairs:,} pairs in {identity.views} views, {identity.dtype}, {size(one.manifest.size_bytes)}"
    print_line(f"{one.manifest.teacher} on {one.manifest.data}: {what}, in {one.folder}")
    for split, number in prepared.num_held_out.items():
        print_line(f"{split}: {number:,} pairs")
    how = "with" if identity.dtype == "float16" else "by themselves"
    print_line(f"runs read it {how}: {shlex.join(_readers(recipe, overrides or [], seed, identity.dtype))}")


def _readers(recipe: str, overrides: list[str], seed: int | None, dtype: str) -> list[str]:
    """The command of a run that reads the cache, with all that decided what is in it."""
    seeded = [] if seed is None else ["--seed", str(seed)]
    settings = overrides if dtype == "float32" else [*overrides, f"teacher.cache_dtype={dtype}"]
    asks = [] if dtype == "float32" else ["--cache-teacher", "on"]
    sets = [word for setting in settings for word in ("--set", setting)]
    return ["workbench", "train", "--recipe", recipe, *seeded, *asks, *sets]


def _list(json: bool) -> None:
    from workbench.cli.output import print_json, print_line
    from workbench.engine.teacher_cache.store import home, listed
    from workbench.formatting import size

    found = listed()
    total = sum(one.manifest.size_bytes for one in found)
    if json:
        print_json({"folder": str(home()), "size_bytes": total, "caches": [_document(one) for one in found]})
        return
    if not found:
        print_line(f"no teacher cache in {home()}")
        return
    for one in found:
        identity, built = one.manifest.identity, f"{one.num_built} of {one.manifest.num_blocks} blocks"
        state = "whole" if one.num_built == one.manifest.num_blocks else built
        print_line(f"{one.folder.name[:8]}  {size(one.manifest.size_bytes)}, {state}")
        print_line(f"  {one.manifest.teacher} on {one.manifest.data}")
        print_line(
            f"  {identity.num_pairs:,} pairs, {identity.views} views of seed {identity.data_seed}, {identity.dtype}"
        )
    print_line(f"{size(total)} in {home()}")


def _remove(name: str, json: bool) -> None:
    from workbench.cli.output import print_json, print_line
    from workbench.engine.teacher_cache.store import listed, remove_all, remove_cache
    from workbench.errors import unknown
    from workbench.formatting import size

    there = listed()
    found = [one for one in there if name == "all" or one.folder.name.startswith(name)]
    if not found and name != "all":
        raise unknown("teacher cache", name, [one.folder.name[:8] for one in there])
    if len(found) > 1 and name != "all":
        raise ValueError(f"{name} begins the names of {len(found)} caches: give more of it, see --list")
    if name == "all":
        remove_all()
    else:
        remove_cache(found[0].folder)
    total = sum(one.manifest.size_bytes for one in found)
    if json:
        print_json({"size_bytes": total, "removed": [_document(one) for one in found]})
        return
    print_line(f"removed {len(found)} teacher cache{'s' * (len(found) != 1)}, {size(total)}")


def _document(one: "Listed") -> dict[str, Any]:
    manifest = one.manifest
    return {
        "id": one.folder.name,
        "data": manifest.data,
        "teacher": manifest.teacher,
        "num_pairs": manifest.identity.num_pairs,
        "views": manifest.identity.views,
        "data_seed": manifest.identity.data_seed,
        "dtype": manifest.identity.dtype,
        "size_bytes": manifest.size_bytes,
        "num_blocks": manifest.num_blocks,
        "num_built": one.num_built,
        "dir": str(one.folder),
    }
