"""``workbench data prepare``: decode images once, list and remove prepared data."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cache.entries import Entry
from workbench.cli.completion import complete_data
from workbench.cli.options import Json, SkipBadShards
from workbench.cli.output import print_json, print_line, print_rows
from workbench.data.cached.prepare import prepare as prepare_data
from workbench.data.cached.store import STORES, Manifest
from workbench.data.mixture import Mixture, mixture_parts
from workbench.data.sources.tar import BadShards
from workbench.data.spec import open_dataset
from workbench.errors import unknown
from workbench.formatting import duration, size

KINDS = ("pixels", "jpeg")


def prepare(
    spec: Annotated[
        str | None,
        typer.Argument(
            metavar="SPEC",
            help="Data: a path, samples:NAME/SPLIT, coco:, karpathy:, folder:, or a mixture.",
            autocompletion=complete_data,
        ),
    ] = None,
    keep: Annotated[
        str | None, typer.Option("--keep", help="pixels (default), or jpeg: images in their original format.")
    ] = None,
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
    if listing and removing:
        raise ValueError("give only one of --list and --remove")
    if (listing or removing) and (keep or working_size or num_pairs or skip_bad_shards or (listing and spec)):
        raise ValueError(f"{'--list' if listing else '--remove'} takes no other option")
    if listing:
        _list(json)
    elif removing:
        _remove(spec, json)
    elif spec is None:
        raise ValueError("name the data: workbench data prepare SPEC; or list prepared data: --list")
    else:
        _prepare(spec, keep or "pixels", working_size, num_pairs, "skip" if skip_bad_shards else "refuse", json)


def _prepare(spec: str, keep: str, working_size: int, num_pairs: int, bad_shards: BadShards, json: bool) -> None:
    if keep not in KINDS:
        raise unknown("--keep", keep, KINDS)
    if keep == "jpeg" and working_size:
        raise ValueError("--keep jpeg keeps images at full size: drop --working-size")
    before = {one.manifest.id for one in STORES.entries()}
    dataset = open_dataset(spec, "train", num_pairs, bad_shards)
    parts = dataset.parts if isinstance(dataset, Mixture) else (dataset,)
    made = {prepare_data(part, "jpeg" if keep == "jpeg" else "pixels", working_size).manifest.id for part in parts}
    stores = [one for one in STORES.entries() if one.manifest.id in made]
    if json:
        print_json(
            {"spec": spec, "stores": [_document(one) | {"is_new": one.manifest.id not in before} for one in stores]}
        )
        return
    for one in stores:
        print_line(f"{one.manifest.spec}: {'already ' if one.manifest.id in before else ''}{_described(one)}")
        for reason, count in _reasons(one.manifest).items():
            print_line(f"  {count:,} {reason}: replaced by other images in runs")
    print_line(f"runs use it automatically; cache: {stores[0].folder.parents[1]}")


def _list(json: bool) -> None:
    found = STORES.entries()
    total = sum(one.size_bytes for one in found)
    if json:
        print_json({"folder": str(STORES.home), "size_bytes": total, "stores": [_document(one) for one in found]})
        return
    if not found:
        print_line(f"nothing is prepared in {STORES.home}")
        return
    rows = [
        [one.manifest.spec, one.manifest.source.kind, f"{one.manifest.num_pairs:,}", size(one.size_bytes)]
        for one in found
    ]
    print_rows(["data", "kept as", "pairs", "size"], rows, num_words=2)
    print_line(f"{size(total)} in {STORES.home}")


def _remove(spec: str | None, json: bool) -> None:
    names = [part.spec for part in mixture_parts(spec)] or [spec] if spec else []
    found = [one for one in STORES.entries() if not names or any(_is_of(name, one.manifest) for name in names)]
    if spec and not found:
        raise ValueError(f"nothing is prepared for '{spec}': see workbench data prepare --list")
    for one in found:
        STORES.remove(one.folder)
    total = sum(one.size_bytes for one in found)
    if json:
        print_json({"size_bytes": total, "removed": [_document(one) for one in found]})
        return
    print_line(f"removed {len(found)} prepared data set{'' if len(found) == 1 else 's'}, {size(total)}")


def _is_of(name: str, manifest: Manifest) -> bool:
    """Whether a store holds this SPEC (relative to this folder), or any split of this sample set."""
    if name.startswith("samples:"):  # drawn by the workbench, so the same in every folder
        return manifest.spec == name or manifest.spec.startswith((f"{name},", f"{name}/"))
    return manifest.place == str(Path.cwd()) and (manifest.spec == name or manifest.spec.startswith(f"{name},"))


def _described(one: Entry[Manifest]) -> str:
    manifest = one.manifest
    pairs = f"{manifest.num_pairs:,} pairs as {manifest.source.kind}, {size(one.size_bytes)}"
    return f"prepared: {pairs}, made in {duration(manifest.elapsed_s)}"


def _document(one: Entry[Manifest]) -> dict[str, Any]:
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


def _reasons(manifest: Manifest) -> dict[str, int]:
    return dict(Counter(reason for reason, _ in manifest.unusable.values()).most_common())
