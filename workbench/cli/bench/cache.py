"""``workbench bench cache``."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.bench.report import Bench, Device, at_least, device_named, report
from workbench.cli.options import Json

if TYPE_CHECKING:
    import torch

    from workbench.bench.cache import Size

MEANING = "Times faster than a live teacher; times the floor, a teacher that costs nothing; peak beyond what was held."


def cache(
    size: Annotated[str, typer.Option("--size", help="samples, or real: ViT-B-16 to ViT-T-16 at 224 px.")] = "samples",
    batch: Annotated[
        int | None, typer.Option("--batch", help="Pairs in a batch; if none, 128, or 8 at --size real.")
    ] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Time of a step with a cached teacher, with a live one, and with one that costs nothing.

    All with the losses of the recipe clip-kd, taking turns in one run.

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
    """Of these sizes, with the pairs of a batch."""
    from workbench.bench.cache import cache_rows
    from workbench.bench.contest import clock

    entries = {f"cache, {size.name}, B = {pairs}": partial(cache_rows, size, pairs, place) for size, pairs in sizes}
    return Bench(entries, MEANING, clock(place))
