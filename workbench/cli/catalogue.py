"""``workbench losses``, ``recipes`` and ``studies``: lists of what is available."""

from inspect import signature
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.options import DEFAULT_RUNS, Json, RunsDir
from workbench.cli.output import print_json, print_line, print_rows, print_wrapped
from workbench.config.toml import load_recipe
from workbench.config.toml import recipes as all_recipes
from workbench.results.answers import answered
from workbench.runs.studies import find_study, known_studies

if TYPE_CHECKING:
    from workbench.losses.base import Loss


def losses(
    batch: Annotated[int, typer.Option("--batch", min=2, help="Pairs in a batch.")] = 1024,
    dim: Annotated[int, typer.Option("--dim", min=1, help="The teacher's embedding width.")] = 512,
    json: Json = False,
) -> None:
    """List all losses: equation, settings, published weight, and that weight at your batch size and width.

    Examples:

        workbench losses
        workbench losses --batch 256 --dim 128
    """
    from workbench.losses import LOSSES  # imports torch

    documents = [document for loss in LOSSES.values() for document in _documents(loss, batch, dim)]
    if json:
        print_json({"batch": batch, "dim": dim, "losses": documents})
        return
    rows = [
        [f"{d['name']} ({d['convention']})", _number(d["weight"]), _number(d["translated_weight"])] for d in documents
    ]
    print_rows(["loss", "published weight", f"at B = {batch}, D = {dim}"], rows)
    for name, loss in LOSSES.items():
        print_line("")
        print_wrapped(f"{name}: {loss.title}. {loss.paper}")
        print_wrapped(loss.equation, "  ")
        print_wrapped(f"difference in the released code: {loss.departure}", "  ")
        if settings := _settings(loss):
            print_wrapped("settings: " + ", ".join(f"{key} = {value}" for key, value in settings.items()), "  ")


def _documents(loss: "type[Loss]", batch: int, dim: int) -> list[dict[str, Any]]:
    """A loss as JSON documents, one per convention with a published weight; one if none is published."""
    about = {
        "name": loss.name,
        "title": loss.title,
        "paper": loss.paper,
        "equation": loss.equation,
        "departure": loss.departure,
        "settings": _settings(loss),
    }
    if not loss.published_weight:
        return [about | {"convention": "paper", "weight": None, "translated_weight": None}]
    return [
        about
        | {
            "convention": convention,
            "weight": weight,
            "translated_weight": weight * loss(convention).translation(batch, dim),
        }
        for convention, weight in loss.published_weight.items()
    ]


def _settings(loss: "type[Loss]") -> dict[str, Any]:
    """The loss's settings with their defaults, without the convention."""
    # The constructor's parameters are the settings.
    return {name: p.default for name, p in signature(loss).parameters.items() if name != "convention"}


def _number(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.4g}"


def recipes(json: Json = False) -> None:
    """List all recipes: steps, batch size, and the question each answers.

    Examples:

        workbench recipes
        workbench train --recipe fd --steps 100
    """
    configs = {name: load_recipe(name) for name in sorted(all_recipes())}
    if json:
        documents = [
            {"name": name, "question": config.question, "num_steps": config.train.num_steps}
            for name, config in configs.items()
        ]
        print_json({"recipes": documents})
        return
    rows = [
        [name, f"{config.train.num_steps} x {config.train.batch_size}", config.question]
        for name, config in configs.items()
    ]
    print_rows(["recipe", "steps x batch", "question"], rows, num_words=3)


def studies(runs: RunsDir = DEFAULT_RUNS, json: Json = False) -> None:
    """List all studies: the question, the number of runs, and the answer if it has been run.

    Includes the bundled studies, your own in this folder or in ./studies, and those that have runs.

    Examples:

        workbench studies
        workbench sweep --study icl_weight
        workbench report icl_weight
    """
    found = [find_study(name, runs).study for name in known_studies(runs)]
    answers = answered()
    if json:
        documents = [
            {
                "name": study.name,
                "question": study.question,
                "num_runs": study.num_runs,
                "cost": study.cost,
                "answer": answers.get(study.name),
            }
            for study in found
        ]
        print_json({"studies": documents})
        return
    # Sequential studies add seeds to what is open.
    rows = [[study.name, f"{study.num_runs}{'+' * study.is_sequential}", study.question] for study in found]
    print_rows(["study", "runs", "question"], rows, num_words=3)
    if answers:
        print_line("")
        print_rows(["study", "answered"], [[name, answer] for name, answer in answers.items()], num_words=2)
