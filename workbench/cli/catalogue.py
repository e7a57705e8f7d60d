"""``workbench losses`` and ``workbench recipes``: what there is to choose from."""

from typing import Annotated

import typer

from workbench.cli.options import Json


def losses(
    batch: Annotated[int, typer.Option("--batch", min=2, help="Pairs in a batch.")] = 1024,
    dim: Annotated[int, typer.Option("--dim", min=1, help="The teacher's embedding width.")] = 512,
    json: Json = False,
) -> None:
    """Every loss: its equation, its published weight, and that weight at your batch and width.

    Examples:

        workbench losses

        workbench losses --batch 256 --dim 128
    """
    from workbench.cli.output import print_json, print_line, print_rows
    from workbench.losses import LOSSES

    documents = [
        {
            "name": name,
            "title": loss.title,
            "paper": loss.paper,
            "equation": loss.equation,
            "departure": loss.departure,
            "convention": convention,
            "weight": weight,
            "translated_weight": weight * loss(convention).translation(batch, dim),
        }
        for name, loss in LOSSES.items()
        for convention, weight in loss.published_weight.items()
    ]
    if json:
        print_json({"batch": batch, "dim": dim, "losses": documents})
        return
    rows = [
        [f"{d['name']} ({d['convention']})", f"{d['weight']:g}", f"{d['translated_weight']:.4g}"] for d in documents
    ]
    print_rows(["loss", "published weight", f"at B = {batch}, D = {dim}"], rows)
    for name, loss in LOSSES.items():
        print_line(
            f"\n{name}: {loss.title}. {loss.paper}\n  {loss.equation}\n  departure of the release: {loss.departure}"
        )


def recipes(json: Json = False) -> None:
    """Every recipe: the question it answers, and its length."""
    from workbench.cli.output import print_json, print_rows
    from workbench.config.toml import load_recipe
    from workbench.config.toml import recipes as all_recipes

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
