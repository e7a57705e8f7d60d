"""``workbench bench losses``."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.bench.report import Bench, Device, at_least, device_named, report
from workbench.cli.options import Json

if TYPE_CHECKING:
    from workbench.bench.losses import LossBench

BATCHES = (128, 512, 1024, 2048)
STRAIGHTFORWARD_UP_TO = 512
WIDTH = 512
MEANING = "Times faster than the straightforward form; times the floor, the products alone; peak beyond what was held."


def losses(
    batch: Annotated[
        list[int] | None, typer.Option("--batch", help="Pairs in a batch; if none, 128, 512, 1024, 2048. Repeatable.")
    ] = None,
    dim: Annotated[int, typer.Option("--dim", help="Embedding width of both models.")] = WIDTH,
    case: Annotated[
        list[str] | None, typer.Option("--case", help="A loss, gd-paper or mixture; if none, all. Repeatable.")
    ] = None,
    straightforward_up_to: Annotated[
        int, typer.Option("--straightforward-up-to", help="Its largest batch: gd takes 16 x B x B x D bytes there.")
    ] = STRAIGHTFORWARD_UP_TO,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Time and peak memory of the losses, forward and backward, at growing batches.

    Every loss by itself and CLIP-KD's six together (mixture), dense and in chunks of rows.

    They take turns with the straightforward form (the released arithmetic line by line) and with their floor (the
    matrix products alone) in one run.

    Examples:

        workbench bench losses

        workbench bench losses --case mixture --batch 8192

        workbench bench losses --case gd --case gd-paper --batch 256 --dim 64 --json
    """
    sizes = sorted(set(batch or BATCHES))
    at_least(2, "--batch", sizes[0])
    at_least(1, "--dim", dim)
    from workbench.bench.losses import LossBench
    from workbench.engine.device import machine_facts

    place = device_named(device)
    bench = losses_bench(LossBench(dim, place, straightforward_up_to), case or [], sizes)
    report(bench, {"machine": machine_facts(place), "dim": dim}, json)


def losses_bench(bench: "LossBench", cases: list[str], sizes: list[int]) -> Bench:
    """Of these cases, all if none, at these numbers of pairs."""
    from workbench.bench.choose import choose_cases
    from workbench.bench.contest import clock
    from workbench.bench.losses import CASES

    entries = {
        f"losses, {case.name}, B = {size}": partial(bench.rows, case, size)
        for case in choose_cases(cases, CASES)
        for size in sizes
    }
    return Bench(entries, MEANING, clock(bench.device))
