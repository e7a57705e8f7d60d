"""``workbench teacher``."""

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.options import DEFAULT_RUNS, Json, Name, Overrides, Recipe, RunsDir, Seed, Steps

app = typer.Typer(help="Make teachers.", no_args_is_help=True)


@app.command("train")
def train_(
    recipe: Recipe = "teacher-scenes",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write the model, its metrics and its log there.")
    ] = None,
    overrides: Overrides = None,
    steps: Steps = None,
    seed: Seed = None,
    name: Name = None,
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Train a CLIP from its pairs alone, to teach others.

    Examples:

        workbench teacher train --recipe teacher-scenes --out my-teacher

        workbench train --recipe clip-kd --set teacher.model=my-teacher
    """
    from workbench.cli.output import print_json, print_line, print_metrics
    from workbench.cli.train import follow, make_config
    from workbench.engine.launch import launch
    from workbench.engine.publish import publish_teacher
    from workbench.runs.directory import find_run, new_run_id

    config = make_config(recipe, overrides, steps, seed)
    run_id = name or new_run_id(recipe, config.seed, runs)
    follow(launch({run_id: config}, runs), json, prints=out is None)
    if out is None:
        return
    document = publish_teacher(find_run(runs, run_id), out)
    if json:
        print_json({"id": run_id, "folder": str(out.absolute()), **document})
        return
    for split in ("validation", "test"):
        if split in document:
            print_metrics(document[split]["metrics"], document[split]["errors"], f"{split}, as written")
    print_line(f"teach with it: workbench train --recipe clip-kd --set teacher.model={out}")
