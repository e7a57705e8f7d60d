"""``workbench bench cache``, ``cohort`` and ``peer``: training runs against alternatives."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.bench.report import Bench, Device, at_least, device_named, report
from workbench.cli.options import Json

if TYPE_CHECKING:
    import torch

    from workbench.bench.cache import Size
    from workbench.bench.peer import Match

CACHE_MEANING = "Times faster than a live teacher; times the lower bound, a teacher at no cost; peak: extra memory."


def cache(
    size: Annotated[str, typer.Option("--size", help="samples, or real: ViT-B-16 to ViT-T-16 at 224 px.")] = "samples",
    batch: Annotated[
        int | None, typer.Option("--batch", help="Batch size; 128 if not given, or 8 with --size real.")
    ] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Time of a step with a cached teacher, a live teacher, and a teacher at no cost.

    All use the losses of the recipe clip-kd, interleaved in one run.

    Examples:

        workbench bench cache

        workbench bench cache --size real --batch 16 --json
    """
    from workbench.bench.cache import choose_size
    from workbench.engine.device import machine_facts

    chosen, place = choose_size(size), device_named(device)
    batch_size = chosen.batch_size if batch is None else batch
    at_least(2, "--batch", batch_size)
    report(cache_bench([(chosen, batch_size)], place), {"machine": machine_facts(place)}, json)


def cache_bench(sizes: "list[tuple[Size, int]]", place: "torch.device") -> Bench:
    """The benchmark of these model sizes, each with its batch size."""
    from workbench.bench.cache import cache_rows
    from workbench.bench.contest import clock

    entries = {f"cache, {size.name}, B = {pairs}": partial(cache_rows, size, pairs, place) for size, pairs in sizes}
    return Bench(entries, CACHE_MEANING, clock(place))


NUM_MEMBERS, COHORT_PAIRS = 8, 128
COHORT_MEANING = (
    "Times faster than N runs; times the lower bound that sharing allows (stacked: a step of one); peak: extra memory."
)


def cohort(
    members: Annotated[int, typer.Option("--members", help="Number of students, N.")] = NUM_MEMBERS,
    batch: Annotated[int, typer.Option("--batch", help="Batch size.")] = COHORT_PAIRS,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Time of a step of N students in one cohort, against N separate runs.

    Uses sample models and data, the losses of the recipe clip-kd and a live teacher. Sharing decoding and teacher can
    give a speedup of N (D + T + S) / (D + T + N S), for decode, teacher and student times D, T, S of the same run. On a
    GPU also stacked, against the step of one run.

    Examples:

        workbench bench cohort

        workbench bench cohort --members 4 --batch 64 --json
    """
    at_least(2, "--members", members)
    at_least(2, "--batch", batch)
    from workbench.engine.device import machine_facts

    place = device_named(device)
    facts = {"machine": machine_facts(place), "num_members": members}
    report(cohort_bench(place, members, batch), facts, json)


def cohort_bench(place: "torch.device", members: int = NUM_MEMBERS, batch: int = COHORT_PAIRS) -> Bench:
    """The benchmark of a cohort of this many members, at this batch size."""
    from workbench.bench.cache import SIZES
    from workbench.bench.cohort import cohort_rows
    from workbench.bench.contest import clock

    rows = partial(cohort_rows, SIZES["samples"], members, batch, place)
    return Bench({f"cohort, {members} members, B = {batch}": rows}, COHORT_MEANING, clock(place))


PEER_MEANING = "Times faster than open_clip's training program, in float32 with the same number of threads."


def peer(
    batch: Annotated[int, typer.Option("--batch", help="Batch size.")] = 128,
    workers: Annotated[int, typer.Option("--workers", help="Data loader processes of each.")] = 1,
    turns: Annotated[int, typer.Option("--turns", help="Turns of each, with 8 timed steps.")] = 5,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Throughput of open_clip's training program with its distillation flags, and of the workbench.

    Same teacher and student (mini-w128, mini-w64, byte-pair tokenizer), images (48 px, JPEG), batch size, losses,
    threads and float32. They take turns, and the other one is paused. Needs the extra `peer`.

    The workbench's first row does the same work; the others use images decoded, or embeddings computed, beforehand.

    Examples:

        workbench bench peer

        workbench bench peer --batch 64 --workers 0 --json
    """
    at_least(2, "--batch", batch)
    at_least(0, "--workers", workers)
    at_least(1, "--turns", turns)
    from workbench.bench.peer import Match
    from workbench.engine.device import machine_facts

    place = device_named(device)
    facts = {"machine": machine_facts(place), "num_workers": workers}
    report(peer_bench(Match(batch, workers, place, turns)), facts, json)


def peer_bench(match: "Match") -> Bench:
    """The benchmark of this match."""
    from workbench.bench.peer import peer_rows

    return Bench(
        {f"peer, open_clip_train.main, B = {match.batch_size}": partial(peer_rows, match)}, PEER_MEANING, "wall"
    )
