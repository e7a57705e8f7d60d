"""``workbench teacher cache``: make, list and remove caches of teacher embeddings."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cache.entries import Entry
from workbench.cli.completion import complete_recipe
from workbench.cli.options import DEFAULT_RUNS, RECIPE_HELP, Json, Overrides, RunsDir, Seed, Trust
from workbench.cli.output import print_json, print_line, print_rows
from workbench.config.toml import load_recipe
from workbench.engine.teacher_cache.manifest import CACHES, Manifest, num_built, remove_all
from workbench.errors import unknown
from workbench.formatting import size
from workbench.preflight.precheck import check_config

DTYPES = ("float32", "float16")
MODES = ("auto", "on", "off")
CacheTeacher = Annotated[
    str | None,
    typer.Option(
        "--cache-teacher",
        metavar="|".join(MODES),
        help="Read teacher embeddings from disk; on creates the cache, auto only if it saves time (teacher.cache).",
    ),
]


def cache(
    recipe: Annotated[str | None, typer.Option("--recipe", help=RECIPE_HELP, autocompletion=complete_recipe)] = None,
    overrides: Overrides = None,
    seed: Seed = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="float32 (default), or float16 at half the size.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the caches.")] = False,
    removing: Annotated[
        str | None, typer.Option("--remove", metavar="ID|all", help="Remove one cache, or all.")
    ] = None,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
    json: Json = False,
) -> None:
    """Cache the teacher's embeddings of all views of a recipe's training pairs.

    Runs with the same pairs, data.seed, data.views, crops and teacher use the
    cache automatically instead of the teacher. A float32 cache does not change
    any weight. Runs use a float16 cache only with
    --cache-teacher on --set teacher.cache_dtype=float16.

    An interrupted cache is continued, and damaged parts are made again.

    Examples:

        workbench teacher cache --recipe clip-kd

        workbench teacher cache --recipe clip-kd --seed 1 --dtype float16

        workbench teacher cache --list

        workbench teacher cache --remove all
    """
    is_making = recipe is not None or overrides or seed is not None or dtype is not None
    if sum(map(bool, (is_making, listing, removing))) != 1:
        raise ValueError("give one of: --recipe NAME to make a cache, --list, or --remove ID")
    if listing:
        _list(json)
    elif removing:
        _remove(removing, json)
    elif recipe is None:
        raise ValueError("name the recipe: workbench teacher cache --recipe NAME")
    else:
        _make(recipe, overrides, seed, dtype, runs, json)


def with_cache(overrides: list[str] | None, cache_teacher: str | None) -> list[str] | None:
    """The overrides with that of ``--cache-teacher``."""
    if cache_teacher is None:
        return overrides

    if cache_teacher not in MODES:
        raise unknown("--cache-teacher", cache_teacher, MODES)
    return [*(overrides or []), f"teacher.cache={cache_teacher}"]


def _make(
    recipe: str, overrides: list[str] | None, seed: int | None, dtype: str | None, runs: Path, json: bool
) -> None:
    if dtype is not None and dtype not in DTYPES:
        raise unknown("dtype of a teacher cache", dtype, DTYPES)
    # teacher.cache=on: auto would skip a cache that saves no time.
    chosen = [] if dtype is None else [f"teacher.cache_dtype={dtype}"]
    config = load_recipe(recipe, [*(overrides or []), "teacher.cache=on", *chosen], seed=seed)
    check_config(config, runs)
    from workbench.engine.teacher_cache.prepare import prepare_cache

    prepared = prepare_cache(config, runs)
    (one,) = (one for one in CACHES.entries() if one.folder == prepared.cache.folder)
    if json:
        print_json(_document(one) | {"num_held_out": prepared.num_held_out})
        return
    identity = one.manifest.identity
    what = f"{identity.num_pairs:,} pairs in {identity.views} views, {identity.dtype}, {size(one.manifest.size_bytes)}"
    print_line(f"{one.manifest.teacher} on {one.manifest.data}: {what}, in {one.folder}")
    for split, number in prepared.num_held_out.items():
        print_line(f"{split}: {number:,} pairs")
    how = "with" if identity.dtype == "float16" else "automatically"
    print_line(f"runs use it {how}: {shlex.join(_readers(recipe, overrides or [], seed, identity.dtype))}")


def _readers(recipe: str, overrides: list[str], seed: int | None, dtype: str) -> list[str]:
    """The command of a run that uses the cache, with all settings that identify it."""
    seeds = [] if seed is None else ["--seed", str(seed)]
    # Rounding to float16 changes the losses slightly, so a run must ask for it.
    settings = overrides if dtype == "float32" else [*overrides, f"teacher.cache_dtype={dtype}"]
    requests = [] if dtype == "float32" else ["--cache-teacher", "on"]
    sets = [word for setting in settings for word in ("--set", setting)]
    return ["workbench", "train", "--recipe", recipe, *seeds, *requests, *sets]


def _list(json: bool) -> None:
    found = CACHES.entries()
    total = sum(one.manifest.size_bytes for one in found)
    if json:
        print_json({"folder": str(CACHES.home), "size_bytes": total, "caches": [_document(one) for one in found]})
        return
    if not found:
        print_line(f"no teacher cache in {CACHES.home}")
        return
    rows = [_row(one) for one in found]
    print_rows(["id", "teacher", "data", "dtype", "blocks", "pairs", "views", "seed", "size"], rows, num_words=4)
    print_line(f"{size(total)} in {CACHES.home}")


def _row(one: Entry[Manifest]) -> list[str]:
    manifest, identity = one.manifest, one.manifest.identity
    num_blocks, built = len(manifest.blocks), num_built(one.folder, manifest)
    blocks = "all" if built == num_blocks else f"{built} of {num_blocks}"
    numbers = [blocks, f"{identity.num_pairs:,}", str(identity.views), str(identity.data_seed)]
    return [one.folder.name[:8], manifest.teacher, manifest.data, identity.dtype, *numbers, size(manifest.size_bytes)]


def _remove(name: str, json: bool) -> None:
    every = CACHES.entries()
    found = [one for one in every if name == "all" or one.folder.name.startswith(name)]
    if not found and name != "all":
        raise unknown("teacher cache", name, [one.folder.name[:8] for one in every])
    if len(found) > 1 and name != "all":
        raise ValueError(f"{name} matches {len(found)} caches: give more characters, see --list")
    if name == "all":
        remove_all()
    else:
        CACHES.remove(found[0].folder)
    total = sum(one.manifest.size_bytes for one in found)
    if json:
        print_json({"size_bytes": total, "removed": [_document(one) for one in found]})
        return
    print_line(f"removed {len(found)} teacher cache{'s' * (len(found) != 1)}, {size(total)}")


def _document(one: Entry[Manifest]) -> dict[str, Any]:
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
        "num_blocks": len(manifest.blocks),
        "num_built": num_built(one.folder, manifest),
        "dir": str(one.folder),
    }
