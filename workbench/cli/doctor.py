"""``workbench doctor``: check this machine, and a run before it is trained."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.completion import complete_recipe
from workbench.cli.options import DEFAULT_RUNS, RECIPE_HELP, Json, Overrides, RunsDir, Trust
from workbench.cli.output import print_json, print_line, print_rows, print_step
from workbench.config.toml import load_recipe
from workbench.preflight.precheck import check_config
from workbench.progress import phase

if TYPE_CHECKING:
    from workbench.preflight.doctor import Diagnosis
    from workbench.preflight.machine import Machine


def doctor(
    recipe: Annotated[str | None, typer.Option("--recipe", help=RECIPE_HELP, autocompletion=complete_recipe)] = None,
    overrides: Overrides = None,
    max_time_s: Annotated[
        float,
        typer.Option(
            "--max-time",
            min=0,
            metavar="S",
            help="Skip test steps that would take longer than S seconds, and estimate instead; 0 for no limit.",
        ),
    ] = 120,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
    json: Json = False,
) -> None:
    """Check this machine, and find problems of a run before training it.

    With a recipe, builds the run and trains a few steps without keeping
    anything: memory, training time, captions, teacher, and the effect of every
    loss.

    Exit status 1 for problems, 0 for warnings only, 2 for settings that
    training would refuse.

    Examples:

        workbench doctor

        workbench doctor --recipe clip-kd

        workbench doctor --recipe clip-kd --set data.train=pairs.csv --json
    """
    diagnosis = _examine(recipe, overrides, runs, max_time_s)
    if json:
        print_json({"recipe": recipe} | diagnosis.to_json())
    else:
        _print(diagnosis)
    if diagnosis.has_problem:
        raise typer.Exit(1)


def _examine(recipe: str | None, overrides: list[str] | None, runs: Path, max_time_s: float) -> "Diagnosis":
    if recipe is None:
        if overrides:
            raise ValueError("--set changes a recipe: name one with --recipe, e.g. --recipe clip-kd")
        from workbench.preflight.doctor import examine_machine

        return examine_machine(runs)

    config = load_recipe(recipe, overrides)

    check_config(config, runs)

    with phase("loading PyTorch"):
        from workbench.preflight.doctor import examine_run

    return examine_run(config, runs, print_step, max_time_s)


def _print(diagnosis: "Diagnosis") -> None:
    print_line(_versions(diagnosis.machine))
    rows = []
    for finding in diagnosis.findings:
        mark = "ok" if finding.level == "ok" else finding.level.upper()
        rows.append([mark, finding.check, finding.message])
        if finding.remedy:
            rows.append(["", "", f"-> {finding.remedy}"])
    print_rows(["", "check", "finding"], rows, num_words=3)
    print_line(_verdict(diagnosis))


def _versions(machine: "Machine") -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return f"{machine.host}: {versions}; precision {' or '.join(machine.precisions)}"


def _verdict(diagnosis: "Diagnosis") -> str:
    levels = [finding.level for finding in diagnosis.findings]
    counts = ((levels.count(level), level) for level in ("problem", "warning"))
    found = [f"{count} {level}{'s' if count > 1 else ''}" for count, level in counts if count]
    return " and ".join(found) if found else "no problems found"
