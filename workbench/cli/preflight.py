"""``workbench doctor`` and ``workbench calibrate``: before a run is trained."""

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.completion import complete_recipe
from workbench.cli.options import (
    DEFAULT_RUNS,
    MADE_BY,
    OUT_FILE,
    RECIPE_HELP,
    Json,
    Overrides,
    Recipe,
    RunsDir,
    Seed,
    Trust,
    check_free,
    writing,
)
from workbench.cli.output import print_json, print_line, print_rows, print_step
from workbench.config.run import RunConfig
from workbench.config.toml import load_recipe, merge, parse_override
from workbench.errors import print_error
from workbench.files import resolved, write_atomically
from workbench.preflight.calibrate import Calibration, WeightedShare, shares_of
from workbench.preflight.calibrate import calibrate as propose
from workbench.preflight.precheck import check_config, check_steps
from workbench.process import check_single_process
from workbench.progress import phase

if TYPE_CHECKING:
    from workbench.preflight.doctor import Diagnosis
    from workbench.preflight.machine import Machine


MaxTimeS = Annotated[
    float,
    typer.Option(
        "--max-time",
        min=0,
        metavar="S",
        help="Skip test steps that would take longer than S seconds, and estimate instead; 0 for no limit.",
    ),
]


def doctor(
    recipe: Annotated[str | None, typer.Option("--recipe", help=RECIPE_HELP, autocompletion=complete_recipe)] = None,
    overrides: Overrides = None,
    max_time_s: MaxTimeS = 120,
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
        _print_diagnosis(diagnosis)
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
    check_steps(config)

    with phase("loading PyTorch"):
        from workbench.preflight.doctor import examine_run

    return examine_run(config, runs, print_step, max_time_s)


def _print_diagnosis(diagnosis: "Diagnosis") -> None:
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


Shares = Annotated[
    list[str] | None,
    typer.Option(
        "--share", metavar="LOSS=SHARE", help="Share of the gradient, e.g. fd=0.3; the others split the rest."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="The recipe to write.", show_default="RECIPE-calibrated.toml"),
]


def calibrate(
    recipe: Recipe = "clip-kd",
    overrides: Overrides = None,
    shares: Shares = None,
    batches: Annotated[int, typer.Option("--batches", min=1, help="Number of batches to average over.")] = 4,
    out: Out = None,
    seed: Seed = None,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
    json: Json = False,
) -> None:
    """Choose loss weights by their share of the gradient, and write them as a recipe.

    Measures each loss's gradient norm at the towers' weights before the first step. Shares are equal unless given with
    --share; clip keeps its weight.

    Examples:

        workbench calibrate --recipe clip-kd
        workbench calibrate --recipe clip-kd --share clip=0.5 --share fd=0.3 --out mine.toml
    """
    check_single_process()
    config = load_recipe(recipe, overrides, seed=seed)
    chosen = dict(_parse_share(share) for share in shares or [])
    file = out or Path(f"{Path(recipe).name.removesuffix('.toml')}-calibrated.toml")
    # All checks come before the measurement, which takes minutes.
    _check_free(file)
    check_config(config, runs)
    shares_of(config, chosen)
    calibration = propose(config, chosen, num_batches=batches, runs_dir=runs)
    _write(file, _recipe_table(calibration, recipe, overrides or [], file))
    if json:
        print_json({"recipe": recipe, "file": str(file), "num_batches": batches} | _calibration_document(calibration))
        return
    _print_calibration(calibration)
    print_line(f"written to {file}; train with: workbench train --recipe {shlex.quote(str(file))}")


def calibrated(config: RunConfig, runs: Path) -> RunConfig:
    """The config with weights that give all losses equal shares of the gradient; printed to stderr."""
    calibration = propose(config, runs_dir=runs)
    weights = ", ".join(f"{loss.name} {loss.proposed.weight:g}" for loss in calibration.losses)
    print_error(f"calibrated to equal shares of the gradient: {weights}")
    return calibration.config


def _parse_share(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    try:
        return name.strip(), float(share)
    except ValueError:
        raise ValueError(f"--share {text!r}: write it as LOSS=SHARE, e.g. --share fd=0.3") from None


def _check_free(file: Path) -> None:
    if file.suffix != ".toml":
        raise ValueError(f"--out {file}: a recipe's file name must end in .toml")
    check_free(file, OUT_FILE)


def _recipe_table(calibration: Calibration, recipe: str, overrides: list[str], file: Path) -> dict[str, Any]:
    """A recipe that extends the original with the ``--set`` overrides and the proposed weights."""
    is_file = recipe.endswith(".toml")
    # "extends" is relative to the new file, not to the current folder.
    parent = os.path.relpath(resolved(Path(recipe)), resolved(file).parent) if is_file else recipe
    shares = ", ".join(f"{loss.name} {loss.proposed.share:.0%}" for loss in calibration.losses)
    table: dict[str, Any] = {"extends": parent, "question": f"What if the losses' gradient shares are {shares}?"}
    for override in overrides:
        table = merge(table, parse_override(override))
    for name in (loss.name for loss in calibration.losses):
        chosen = calibration.config.loss[name].model_dump(include={"weight", "weight_at"}, exclude_unset=True)
        table = merge(table, {"loss": {name: chosen}})
    return table


def _write(file: Path, table: Mapping[str, Any]) -> None:
    import tomli_w

    command = " ".join(shlex.join(["workbench", *sys.argv[1:]]).split())  # on one line: it becomes a TOML comment
    with writing(file, OUT_FILE):
        write_atomically(file, f"{MADE_BY} {command}\n{tomli_w.dumps(table)}")


def _calibration_document(calibration: Calibration) -> dict[str, Any]:
    return {"losses": [asdict(loss) for loss in calibration.losses]}


def _print_calibration(calibration: Calibration) -> None:
    rows = [
        [loss.name, f"{loss.norm:.3g}", *_cells(loss.published), *_cells(loss.recipe), *_cells(loss.proposed)]
        for loss in calibration.losses
    ]
    print_rows(["loss", "gradient", "published", "share", "recipe's", "share", "proposed", "share"], rows)
    print_line("gradient: norm at weight 1; weights as applied at this batch size and width")


def _cells(weighed: WeightedShare | None) -> list[str]:
    return [f"{weighed.weight:.4g}", f"{weighed.share:.1%}"] if weighed else ["\N{EN DASH}"] * 2
