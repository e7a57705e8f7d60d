"""``workbench bench peer``."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.bench.report import Bench, Device, at_least, device_named, report
from workbench.cli.options import Json

if TYPE_CHECKING:
    from workbench.bench.peer import Match

MEANING = "Times faster than open_clip's own training program, in float32 and with as many threads."


def peer(
    batch: Annotated[int, typer.Option("--batch", help="Pairs in a batch.")] = 128,
    workers: Annotated[int, typer.Option("--workers", help="Processes that make batches, for each.")] = 1,
    turns: Annotated[int, typer.Option("--turns", help="Turns of each, of 8 steps that count.")] = 5,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Pairs a second of open_clip's own training program with its distillation flags, and of the workbench.

    Same teacher and student (mini-w128, mini-w64, byte-pair tokenizer), pictures (48 px, JPEG), batch, losses, threads,
    float32. They take turns: the other stands still. The program needs the extra `peer` installed.

    The first of the workbench's rows does the same work; the others read what was decoded, or embedded, beforehand.

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
    """Of this match."""
    from workbench.bench.peer import peer_rows

    return Bench({f"peer, open_clip_train.main, B = {match.batch_size}": partial(peer_rows, match)}, MEANING, "wall")
