"""The options of ``workbench sweep``, with the parsers of their values."""

import math
from typing import Annotated

import typer

from workbench.cli.completion import complete_study
from workbench.cli.options import finite_option

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}

NameOrFile = Annotated[
    str,
    typer.Option(
        "--study", metavar="NAME|FILE", help="A study; see `workbench studies`.", autocompletion=complete_study
    ),
]


def _seconds(value: str) -> float:
    """Parser of a duration: seconds, or a number with a unit, such as 90s, 30m or 2h."""
    number, factor = (value[:-1], UNITS[value[-1]]) if value[-1:] in UNITS else (value, 1.0)
    try:
        seconds = factor * float(number)
    except ValueError:
        seconds = math.nan
    if not 1 <= seconds < math.inf:
        raise typer.BadParameter(f"must be at least a second, such as 90s, 30m or 2h (got {value})")
    return seconds


Timeout = Annotated[
    float | None,
    typer.Option(
        *("--budget", "--timeout"),
        metavar="TIME",
        parser=_seconds,
        help="Start no more runs (trials of a search) after this time, e.g. 30m or 2h; a number is in seconds.",
    ),
]

AUTO = 0


def _number_or_auto(value: str) -> int:
    """Parser of ``--seeds`` and ``--workers``."""
    if value == "auto":
        return AUTO
    if not (value.isdecimal() and int(value)):
        raise typer.BadParameter(f"must be auto, or a number from 1 (got {value})")
    return int(value)


Seeds = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        metavar="N|auto",
        parser=_number_or_auto,
        help="Seeds (replicates) of every cell; auto adds seeds until every comparison with the baseline is settled. "
        "If not given, the study's.",
    ),
]
Margin = Annotated[
    float | None,
    typer.Option(
        "--margin",
        min=0,
        metavar="POINTS",
        help="Smallest difference that matters, in percentage points (1): smaller ones are equivalent to none.",
        callback=finite_option,
    ),
]
Confirm = Annotated[
    int | None,
    typer.Option("--confirm", min=0, metavar="N", help="Held-out seeds for confirming the best trial of a search."),
]
Slurm = Annotated[
    bool, typer.Option("--slurm", help="Print an sbatch script that runs --workers (8) as a job array, and exit.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue a study and retry failed or stopped runs.")]
Values = Annotated[
    list[str] | None,
    typer.Option("--try", metavar="KEY=VALUE", help="Queue a trial with these values in a started search."),
]
Retry = Annotated[str, typer.Option("--retry", metavar="CELL", help="Queue the cell's failed and stopped runs again.")]
AtOnce = Annotated[
    int | None,
    typer.Option("--at-once", min=1, help="Maximum number of cells per cohort; if not given, all that fit."),
]

Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N|auto",
        parser=_number_or_auto,
        help="Worker processes on this machine; auto, the default, is one a GPU, or one without a GPU.",
    ),
]
Grace = Annotated[
    float,
    typer.Option("--grace", min=1, metavar="S", help="Worker heartbeat timeout, in seconds.", callback=finite_option),
]

Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Training steps of every run.")]
Trials = Annotated[int | None, typer.Option("--trials", min=1, help="Number of trials of a search.")]
Storage = Annotated[str, typer.Option("--storage", metavar="URL", help="Database shared with other machines.")]
Quick = Annotated[bool, typer.Option("--quick", help="Rehearse the study with few steps and two seeds.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Estimate time and memory, and exit.")]
Name = Annotated[
    str,
    typer.Option(
        "--name",
        metavar="NAME",
        help="Keep the results under this name; of a study of several sweeps, run this one.",
    ),
]
AsWorker = Annotated[bool, typer.Option("--as-worker", hidden=True)]
