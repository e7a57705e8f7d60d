"""``workbench data``."""

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.options import Json

app = typer.Typer(help="Make and inspect data.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Make and inspect data."""


@app.command()
def samples(
    name: Annotated[str, typer.Argument(metavar="NAME", help="scenes or emoji.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for the splits.")],
    split: Annotated[
        list[str] | None, typer.Option("--split", help="train, teacher, validation or test; all four if not given.")
    ] = None,
    num_pairs: Annotated[int, typer.Option("--pairs", min=0, help="Pairs a split; 0 for its usual size.")] = 0,
    json: Json = False,
) -> None:
    """Draw sample pictures with their captions as webdataset shards.

    Examples:

        workbench data samples scenes --out pairs --split train --pairs 100000

        workbench data samples emoji --out emoji
    """
    from workbench.cli.output import print_json, print_line
    from workbench.data.samples.registry import draw_shards, sample_set
    from workbench.data.samples.write import num_pairs_in

    splits = split or list(sample_set(name).default_pairs)
    drawn = {one: draw_shards(name, one, num_pairs, out / one) for one in splits}
    counts = {one: num_pairs_in(folder) for one, folder in drawn.items()}
    if json:
        print_json({"name": name, "dir": str(out.absolute()), "num_pairs": counts})
        return
    for one, folder in drawn.items():
        print_line(f"{folder}: {counts[one]:,} pairs")
    print_line(f"train on them with: workbench train --set data.train={out / splits[0]}")
