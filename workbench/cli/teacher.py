"""``workbench teacher``: train, import and cache teachers."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.caches import cache
from workbench.cli.options import (
    DEFAULT_RUNS,
    Json,
    Name,
    NoTest,
    Overrides,
    Recipe,
    RunsDir,
    Seed,
    Steps,
    Trust,
    check_free,
    without_test,
    writing,
)
from workbench.cli.output import print_json, print_line, print_metrics, print_note
from workbench.cli.train import checked_run, follow
from workbench.data.spec import check_spec
from workbench.models.names import check_model, folder_name
from workbench.process import check_single_process
from workbench.progress import phase
from workbench.runs.directory import find_run

if TYPE_CHECKING:
    from workbench.preflight.import_teacher import ImportedTeacher

app = typer.Typer(help="Train, import and cache teachers.", no_args_is_help=True)
app.command()(cache)


OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Output folder for the model, its metrics and its log.")
]


@app.command("train")
def train_(
    recipe: Recipe = "teacher-scenes",
    out: OutOption = None,
    overrides: Overrides = None,
    steps: Steps = None,
    seed: Seed = None,
    name: Name = None,
    no_test: NoTest = False,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
    json: Json = False,
) -> None:
    """Train a CLIP without a teacher, to use as one.

    Examples:

        workbench teacher train --recipe teacher-scenes --out my-teacher
        workbench train --recipe clip-kd --set teacher.model=my-teacher
    """
    if out is not None:
        check_free(out)

    check_single_process()
    run_id, config = checked_run(recipe, without_test(overrides, no_test), steps, seed, name, runs)
    # After the checks: these import torch.
    from workbench.engine.launch import launch
    from workbench.engine.remeasure import publish_teacher

    follow(launch({run_id: config}, runs), json, prints=out is None)
    if out is None:
        return
    with writing(out):
        document = publish_teacher(find_run(runs, run_id), out)
    for split in document["at_chance"]:
        print_note(
            f"{out} is not better than chance on the {split} pairs and cannot teach: "
            "train it longer with --steps N, or on more pairs"
        )
    if json:
        print_json({"id": run_id, "folder": str(out.absolute()), **document})
        return
    for split in ("validation", "test"):
        if split in document:
            measured = document[split]
            print_metrics(measured["metrics"], measured["errors"], f"{split}, as written", chance=measured["chance"])
    if not document["at_chance"]:
        print_line(f"distill from it: workbench train --recipe clip-kd --set teacher.model={quote(str(out))}")


Source = Annotated[
    str, typer.Argument(metavar="SPEC", help="A model SPEC, such as open_clip:NAME@FILE, or a weights file.")
]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="SPEC", help="Held-out pairs to check it on; samples:emoji if it has none."),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Output folder.", show_default="teachers/NAME")]


@app.command("import")
def import_(
    source: Source,
    data: Data = None,
    num_pairs: Annotated[int, typer.Option("--pairs", min=0, help="Use the first N pairs; 0 for all.")] = 0,
    out: Out = None,
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Check that a model can be a teacher, and write it as a model folder.

    It must be clearly better than chance on the pairs. A weights file is
    evaluated with both activations; without a name, its architecture is
    recognized by the shapes.

    Examples:

        workbench teacher import open_clip:ViT-B-16@laion400m_e32
        workbench teacher import teacher.pt --data held-out.tar --out my-teacher
        workbench teacher import config:model.json@teacher.pt --data held-out.csv
    """
    folder = out or Path("teachers") / folder_name(source)
    check_free(folder)
    check_model(source, runs, needs_weights=True)
    if data is not None:
        check_spec(data, "validation")
    with phase("loading PyTorch"):
        from workbench.preflight.import_teacher import import_teacher

    imported = import_teacher(source, data, num_pairs=num_pairs, runs_dir=runs)
    with writing(folder):
        imported.save(folder)
    if json:
        print_json({"folder": str(folder.absolute())} | imported.record())
        return
    _print_imported(imported, folder)


def _print_imported(imported: "ImportedTeacher", folder: Path) -> None:
    record = imported.record()
    title = f"{imported.source}: {record['num_pairs']:,} of {imported.data}"
    print_metrics(record["metrics"], record["errors"], title, chance=imported.trial.measured.chance)
    print_line(f"its best metric is {imported.trial.margin:.0f} standard errors above chance")
    if imported.other:
        # A weights file does not record its activation, so both were evaluated.
        taken, left = ("quick_gelu", "gelu") if imported.uses_quick_gelu else ("gelu", "quick_gelu")
        clearly = "clearly more" if imported.other.is_clearly_below(imported.trial) else "no clear difference"
        print_line(f"activation {taken}: R@1 {imported.trial.recall}; with {left} {imported.other.recall}: {clearly}")
    for name, other in imported.normalized.items():
        clearly = "clearly fewer" if other.is_clearly_below(imported.trial) else "no clear difference"
        print_line(f"image normalization: with {name}, R@1 {other.recall}: {clearly}")
    print_line(f"distill from it: workbench train --recipe clip-kd --set teacher.model={quote(str(folder))}")
