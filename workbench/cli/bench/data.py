"""``workbench bench data``."""

from functools import partial
from typing import Annotated

import typer

from workbench.cli.bench.report import Bench, at_least, report
from workbench.cli.options import Json

NUM_PAIRS = 128
MEANING = "Times faster than decoding live; times the floor, copying as many bytes."


def data(
    batch: Annotated[int, typer.Option("--batch", help="Pairs in a batch.")] = NUM_PAIRS,
    case: Annotated[
        list[str] | None,
        typer.Option("--case", help="samples, photographs or photographs-256; if none, all. Repeatable."),
    ] = None,
    json: Json = False,
) -> None:
    """Time to read pictures, and to make batches of them: live, and prepared as pixels or as jpeg.

    The samples are 48 px, the photographs 500 x 375 and cropped to 224 px, -256 at a working size of 256.

    They take turns with decoding live, and with their floor (copying as many bytes as come out) in one run.

    Examples:

        workbench bench data

        workbench bench data --case samples --batch 512 --json
    """
    at_least(1, "--batch", batch)
    import torch

    from workbench.engine.device import machine_facts

    facts = {"machine": machine_facts(torch.device("cpu"))}
    report(data_bench(case or [], batch), facts, json)


def data_bench(cases: list[str], batch: int = NUM_PAIRS) -> Bench:
    """Of these cases, all if none, at so many pairs."""
    import torch

    from workbench.bench.choose import choose_cases
    from workbench.bench.contest import clock
    from workbench.bench.data import CASES, data_rows

    entries = {f"data, {case.name}": partial(data_rows, case, batch) for case in choose_cases(cases, CASES)}
    return Bench(entries, MEANING, clock(torch.device("cpu")))
