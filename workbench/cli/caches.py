"""``workbench data prepare`` and ``teacher cache``: make, list and remove what runs read from disk."""

import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cache.entries import Entry, EntryKind
from workbench.cli.completion import complete_data, complete_recipe
from workbench.cli.options import DEFAULT_RUNS, RECIPE_HELP, Json, Overrides, RunsDir, Seed, SkipBadShards, Trust
from workbench.cli.output import print_json, print_line, print_rows
from workbench.config.mixture import mixture_parts
from workbench.config.toml import load_recipe
from workbench.data.cached.prepare import prepare as prepare_data
from workbench.data.cached.store import STORES
from workbench.data.cached.store import Manifest as StoreManifest
from workbench.data.mixture import Mixture
from workbench.data.spec import open_dataset
from workbench.data.unusable import BadShards
from workbench.engine.teacher_cache.manifest import CACHES, num_built, remove_all
from workbench.engine.teacher_cache.manifest import Manifest as CacheManifest
from workbench.errors import unknown
from workbench.formatting import duration, size
from workbench.preflight.precheck import check_config

KINDS = ("pixels", "jpeg")
DTYPES = ("float32", "float16")

PreparedData = Annotated[
    str | None,
    typer.Argument(
        metavar="SPEC",
        help="Data: a path, samples:NAME/SPLIT, coco:, karpathy:, folder:, datasets:, or a mixture.",
        autocompletion=complete_data,
    ),
]
Document = dict[str, Any]


Keep = Annotated[str | None, typer.Option("--keep", help="pixels (default), or jpeg: images in their original format.")]


def prepare(
    spec: PreparedData = None,
    keep: Keep = None,
    working_size: Annotated[int, typer.Option("--working-size", min=0, help="The data.working_size of the runs.")] = 0,
    num_pairs: Annotated[int, typer.Option("--pairs", min=0, help="Use the first N pairs; 0 for all.")] = 0,
    listing: Annotated[bool, typer.Option("--list", help="List prepared data.")] = False,
    removing: Annotated[bool, typer.Option("--remove", help="Remove prepared data: of SPEC, or all.")] = False,
    skip_bad_shards: SkipBadShards = False,
    json: Json = False,
) -> None:
    """Decode images once for all later runs. Batches stay exactly the same.

    Runs find prepared data by themselves, and prepare up to 2 GB automatically. The cache ($WORKBENCH_CACHE) is rebuilt
    when the data changes.

    Pixels take 3 bytes each. With --keep jpeg, images take the size of their files and are decoded when read. A working
    size scales images down, for runs with the same data.working_size.

    Examples:

        workbench data prepare pairs.csv
        workbench data prepare coco:captions_train2017.json@train2017 --working-size 256
        workbench data prepare --list
        workbench data prepare pairs.csv --remove
    """
    is_making = keep or working_size or num_pairs or skip_bad_shards or (spec and not removing)
    _check_single(is_making, listing, removing, "SPEC to prepare data, --list, or --remove")
    if listing:
        _list(STORES, "stores", _store_document, _store_row, 2, "nothing is prepared", json)
    elif removing:
        _remove_stores(spec, json)
    elif spec is None:
        raise ValueError("name the data: workbench data prepare SPEC; or list prepared data: --list")
    else:
        _prepare(spec, keep or "pixels", working_size, num_pairs, "skip" if skip_bad_shards else "refuse", json)


def _prepare(spec: str, keep: str, working_size: int, num_pairs: int, bad_shards: BadShards, json: bool) -> None:
    if keep not in KINDS:
        raise unknown("--keep", keep, KINDS)
    if keep == "jpeg" and working_size:
        raise ValueError("--keep jpeg keeps images at full size: drop --working-size")
    before = {one.manifest.id for one in STORES.entries()}  # to tell new ones from those that are reused
    dataset = open_dataset(spec, "train", num_pairs, bad_shards)
    parts = dataset.parts if isinstance(dataset, Mixture) else (dataset,)
    made = {prepare_data(part, "jpeg" if keep == "jpeg" else "pixels", working_size).manifest.id for part in parts}
    stores = [one for one in STORES.entries() if one.manifest.id in made]
    if json:
        documents = [_store_document(one) | {"is_new": one.manifest.id not in before} for one in stores]
        print_json({"spec": spec, "stores": documents})
        return
    for one in stores:
        manifest, known = one.manifest, "already " if one.manifest.id in before else ""
        pairs = f"{manifest.num_pairs:,} pairs as {manifest.source.kind}, {size(one.size_bytes)}"
        print_line(f"{manifest.spec}: {known}prepared: {pairs}, made in {duration(manifest.elapsed_s)}")
        for reason, count in _reasons(manifest).items():
            print_line(f"  {count:,} {reason}: replaced by other images in runs")
    print_line(f"runs use it automatically; cache: {stores[0].folder.parents[1]}")


def _remove_stores(spec: str | None, json: bool) -> None:
    # The views of a mixture are those of the whole SPEC.
    names = [spec, *(part.spec for part in mixture_parts(spec))] if spec else []
    found = [one for one in STORES.entries() if not names or any(_is_of(name, one.manifest) for name in names)]
    if spec and not found:
        raise ValueError(f"nothing is prepared for '{spec}': see workbench data prepare --list")
    for one in found:
        STORES.remove(one.folder)
    _print_removed([_store_document(one) for one in found], "prepared data set", json)


def _is_of(name: str, manifest: StoreManifest) -> bool:
    """Whether a store holds this SPEC (relative to this folder), or any split of this sample set."""
    if name.startswith("samples:"):  # drawn by the workbench, so the same in every folder
        return manifest.spec == name or manifest.spec.startswith((f"{name},", f"{name}/"))
    return manifest.place == str(Path.cwd()) and (manifest.spec == name or manifest.spec.startswith(f"{name},"))


def _store_document(one: Entry[StoreManifest]) -> Document:
    manifest = one.manifest
    return {
        "data": manifest.spec,
        "seen_from": manifest.place,
        "keep": manifest.source.kind,
        "num_pairs": manifest.num_pairs,
        "size_bytes": one.size_bytes,
        "made_in_s": manifest.elapsed_s,
        "unusable": _reasons(manifest),
        "dir": str(one.folder),
    }


def _store_row(document: Document) -> dict[str, str]:
    pairs = f"{document['num_pairs']:,}"
    return {"data": document["data"], "kept as": document["keep"], "pairs": pairs, "size": size(document["size_bytes"])}


def _reasons(manifest: StoreManifest) -> dict[str, int]:
    return dict(Counter(reason for reason, _ in manifest.unusable.values()).most_common())


Dtype = Annotated[str | None, typer.Option("--dtype", help="float32 (default), or float16 at half the size.")]
Removing = Annotated[str | None, typer.Option("--remove", metavar="ID|all", help="Remove one cache, or all.")]


def cache(
    recipe: Annotated[str | None, typer.Option("--recipe", help=RECIPE_HELP, autocompletion=complete_recipe)] = None,
    overrides: Overrides = None,
    seed: Seed = None,
    dtype: Dtype = None,
    listing: Annotated[bool, typer.Option("--list", help="List the caches.")] = False,
    removing: Removing = None,
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
    _check_single(is_making, listing, removing, "--recipe NAME to make a cache, --list, or --remove ID")
    if listing:
        _list(CACHES, "caches", _cache_document, _cache_row, 4, "no teacher cache", json)
    elif removing:
        _remove_caches(removing, json)
    elif recipe is None:
        raise ValueError("name the recipe: workbench teacher cache --recipe NAME")
    else:
        _make_cache(recipe, overrides, seed, dtype, runs, json)


def _make_cache(
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
    entries = {one.folder: one for one in CACHES.entries()}
    made = [entries[cache.folder] for cache in prepared.caches]
    if json:
        documents = [_cache_document(one) for one in made]
        found = documents[0] if len(made) == 1 else {"caches": documents}  # one of each of several teachers
        print_json(found | {"num_held_out": prepared.num_held_out})
        return
    for one in made:
        identity = one.manifest.identity
        views = f"{identity.num_pairs:,} pairs in {identity.views} views"
        what = f"{views}, {identity.dtype}, {size(one.manifest.size_bytes)}"
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


def _remove_caches(name: str, json: bool) -> None:
    every = CACHES.entries()
    found = [one for one in every if name == "all" or one.folder.name.startswith(name)]
    if not found and name != "all":
        raise unknown("teacher cache", name, [one.folder.name[:8] for one in every])
    if len(found) > 1 and name != "all":
        raise ValueError(f"{name} matches {len(found)} caches: give more characters, see --list")
    documents = [_cache_document(one) for one in found]  # before removal: they read the folders
    if name == "all":
        remove_all()
    else:
        CACHES.remove(found[0].folder)
    _print_removed(documents, "teacher cache", json)


def _cache_document(one: Entry[CacheManifest]) -> Document:
    manifest, identity = one.manifest, one.manifest.identity
    return {
        "id": one.folder.name,
        "data": manifest.data,
        "teacher": manifest.teacher,
        "num_pairs": identity.num_pairs,
        "views": identity.views,
        "data_seed": identity.data_seed,
        "dtype": identity.dtype,
        "size_bytes": manifest.size_bytes,
        "num_blocks": len(manifest.blocks),
        "num_built": num_built(one.folder, manifest),
        "dir": str(one.folder),
    }


def _cache_row(document: Document) -> dict[str, str]:
    built, num_blocks = document["num_built"], document["num_blocks"]
    return {
        "id": document["id"][:8],
        "teacher": document["teacher"],
        "data": document["data"],
        "dtype": document["dtype"],
        "blocks": "all" if built == num_blocks else f"{built} of {num_blocks}",
        "pairs": f"{document['num_pairs']:,}",
        "views": str(document["views"]),
        "seed": str(document["data_seed"]),
        "size": size(document["size_bytes"]),
    }


def _check_single(is_making: object, listing: object, removing: object, actions: str) -> None:
    """Refuse a command without exactly one of the three actions, whose options ``actions`` names."""
    if sum(map(bool, (is_making, listing, removing))) != 1:
        raise ValueError(f"give one of: {actions}; the last two take no other option")


def _list(
    kind: EntryKind[Any],
    key: str,
    document: Callable[[Any], Document],
    row: Callable[[Document], dict[str, str]],
    num_words: int,
    empty: str,
    json: bool,
) -> None:
    """Print all entries of a kind, as JSON under ``key`` or as a table; ``empty`` stands for none."""
    documents = [document(one) for one in kind.entries()]
    total = sum(one["size_bytes"] for one in documents)
    if json:
        print_json({"folder": str(kind.home), "size_bytes": total, key: documents})
    elif not documents:
        print_line(f"{empty} in {kind.home}")
    else:
        rows = [row(one) for one in documents]
        print_rows(list(rows[0]), [list(cells.values()) for cells in rows], num_words=num_words)
        print_line(f"{size(total)} in {kind.home}")


def _print_removed(documents: list[Document], noun: str, json: bool) -> None:
    total = sum(one["size_bytes"] for one in documents)
    if json:
        print_json({"size_bytes": total, "removed": documents})
    else:
        print_line(f"removed {len(documents)} {noun}{'s' * (len(documents) != 1)}, {size(total)}")
