"""Options that several commands share."""

import math
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.completion import complete_recipe, complete_run, complete_setting
from workbench.config.trust import RULE, trust_everything


def _trust(is_given: bool) -> bool:
    if is_given:
        trust_everything()
    return is_given


def finite_option(value: float | None) -> float | None:
    """A callback for options that are numbers: nan passes every other check.

    Raises:
        BadParameter: it is not finite.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"must be a finite number (got {value})")
    return value


RECIPE_HELP = "A recipe's name (see `workbench recipes`) or a TOML file."
Recipe = Annotated[str, typer.Option("--recipe", help=RECIPE_HELP, autocompletion=complete_recipe)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting, e.g. loss.icl.weight=2. Repeatable.",
        autocompletion=complete_setting,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", help="Number of steps; phases and cadences that --set does not name scale in proportion."),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of the weights, the order and the crops.")]
Name = Annotated[str | None, typer.Option("--name", metavar="ID", help="The run's id; made up if not given.")]
RunsDir = Annotated[Path, typer.Option("--runs", envvar="WORKBENCH_RUNS", help="The folder that holds the runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else, on stdout.")]
SkipBadShards = Annotated[
    bool,
    typer.Option("--skip-bad-shards", help="Leave out shards that are missing or torn, as data.bad_shards=skip does."),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id or directory.", autocompletion=complete_run)]
# A command declares it as `_trust: Trust = False`: parsing it is what takes effect.
Trust = Annotated[
    bool,
    typer.Option("--trust", callback=_trust, help=f"Run a loss's Python file wherever it is; without it, only {RULE}."),
]
NoTest = Annotated[
    bool, typer.Option("--no-test", help="Do not measure the test pairs at the end; the same as --set data.test=")
]
DEFAULT_RUNS = Path("runs")


def without_test(overrides: list[str] | None, no_test: bool) -> list[str] | None:
    """The settings of ``--set``, with what ``--no-test`` adds.

    Raises:
        ValueError: test pairs are named all the same.
    """
    if not no_test:
        return overrides
    named = [override for override in overrides or [] if override.startswith("data.test=") and override != "data.test="]
    if named:
        raise ValueError(f"--no-test and --set {named[-1]} contradict each other: leave one out")
    return [*(overrides or []), "data.test="]
