"""``workbench bench cohort``."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.bench.report import Bench, Device, at_least, device_named, report
from workbench.cli.options import Json

if TYPE_CHECKING:
    import torch

NUM_MEMBERS, NUM_PAIRS = 8, 128
MEANING = (
    "Times faster than N runs; times the floor, what sharing allows (stacked: a step of one); "
    "peak beyond what was held."
)


def cohort(
    members: Annotated[int, typer.Option("--members", help="Students, N.")] = NUM_MEMBERS,
    batch: Annotated[int, typer.Option("--batch", help="Pairs in a batch.")] = NUM_PAIRS,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Time of a step of N students in one cohort, against N runs one after another.

    Sample models and data with the losses of the recipe clip-kd and a live teacher. Sharing decode and teacher allows
    N (D + T + S) / (D + T + N S) times, with the seconds of decode, teacher and student in the same run. On a GPU also
    stacked, against the step of one run.

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


def cohort_bench(place: "torch.device", members: int = NUM_MEMBERS, batch: int = NUM_PAIRS) -> Bench:
    """Of so many members at so many pairs."""
    from workbench.bench.cache import SIZES
    from workbench.bench.cohort import cohort_rows
    from workbench.bench.contest import clock

    rows = partial(cohort_rows, SIZES["samples"], members, batch, place)
    return Bench({f"cohort, {members} members, B = {batch}": rows}, MEANING, clock(place))
