"""``workbench demo``: train a small student and a baseline, and print the gain."""

from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.completion import complete_recipe
from workbench.cli.options import DEFAULT_RUNS, Json, Overrides, RunsDir
from workbench.cli.output import console, print_json, print_line, print_note, print_rows
from workbench.cli.progress import interruptible, show
from workbench.config.toml import load_recipe
from workbench.preflight.precheck import check_config
from workbench.process import check_single_process
from workbench.views.metrics import metric_label
from workbench.views.results import results_view

if TYPE_CHECKING:
    from workbench.demo import Demo

COLUMNS = (
    "zero_shot_top1",
    "image_to_text_r1",
    "image_to_text_r5",
    "text_to_image_r1",
    "text_to_image_r5",
    "similarity_single",
    "cka",
    "affinity_kl",
)
GAINED = ("image_to_text_r1", "text_to_image_r1")
STEPS = 220
# In 220 steps a student sees each of these pairs about twice. Of fewer pairs it learns less in the same time.
SETTINGS = ("data.num_pairs=10000", "data.views=2")
NEXT = """\
What to try next
  workbench runs list                     all runs, including these
  workbench demo --recipe icl --recipe fd one loss at a time: workbench recipes
  workbench train --set loss.fd.weight=500
  workbench losses                        equations and published weights
  workbench train --set data.train=SHARDS --set data.validation=SHARDS"""


Recipes = Annotated[
    list[str] | None,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE",
        help="Recipe to compare with the baseline. Repeatable.",
        show_default="clip-kd",
        autocompletion=complete_recipe,
    ),
]


def demo(
    recipes: Recipes = None,
    seeds: Annotated[int, typer.Option("--seeds", min=2, help="Number of seeds; gains are paired by seed.")] = 3,
    steps: Annotated[int, typer.Option("--steps", help="Training steps of every student.")] = STEPS,
    overrides: Overrides = None,
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Distill a small CLIP and compare it with one trained without a teacher.

    Takes a few minutes on a laptop. It draws 10,000 sample images, trains two students per seed on the same batches of
    100 pairs, and evaluates both on held-out pairs.

    Examples:

        workbench demo
        workbench demo --seeds 2 --steps 100
        workbench demo --steps 80 --set data.num_pairs=1000
        workbench demo --recipe crd --recipe fd --recipe icl
    """
    check_single_process()
    chosen = tuple(dict.fromkeys(recipes or ["clip-kd"]))
    settings = (*SETTINGS, *(overrides or ()))
    for recipe in chosen:
        check_config(load_recipe(recipe, [*settings], steps=steps), runs)
    # After the checks: this imports torch.
    from workbench.demo import Demo

    tour = Demo(runs, tuple(range(seeds)), steps, settings, chosen)
    print_note(
        f"{1 + len(chosen)} students per seed, with the same architecture, batches and "
        f"{tour.config.data.num_pairs:,} pairs: one trains without a teacher, the others with one."
    )
    with interruptible() as interrupt:
        try:
            for _ in show(tour.events(interrupt), tour.steps):
                pass
        except RuntimeError as error:
            print_note(f"workbench: {error}")
            raise typer.Exit(1) from None
    if interrupt.exit_code:
        print_note("stopped; finished runs are kept, see: workbench runs list")
        raise typer.Exit(interrupt.exit_code)
    figure = tour.save_figure()
    if json:
        print_json(tour.to_json() | {"figure": str(figure)})
        return
    _print_results(tour) if len(chosen) == 1 else _print_gains(tour)
    took = f"{tour.elapsed_s:.0f} s for {(1 + len(chosen)) * seeds} students"
    print_note(f"figure: {figure}    {took}")


def _print_results(tour: "Demo") -> None:
    view = results_view(tour.rows)
    by_name = {column.name: column for column in view.columns}
    gains = tour.gains(tour.recipes[0])
    rows = []
    for column in (by_name[name] for name in COLUMNS if name in by_name):
        gain = gains.get(column.name)
        interval = column.interval(gain.low, gain.high, signed=True) if gain else ""
        gained = column.number(gain.mean, signed=True) if gain else ""
        rows.append([column.title, *(view.text(model, column) for model in view.models), gained, interval])
    for part in ("blocks", "embeddings"):
        rows.append([f"weights, {part}", *(f"{model.num_params[part]:,}" for model in view.models), "", ""])
    heads = [model.model for model in view.models]
    print_rows([f"mean of {len(tour.seeds)} seeds", *heads, "gain", "95 % interval"], rows)
    for name in GAINED:
        by_seed = ", ".join(by_name[name].number(gain, signed=True) for gain in gains[name].per_seed)
        console.print(f"gain by seed, {by_name[name].title}: {by_seed}", markup=False)
    _print_legend(tour)
    console.print(f"\n{NEXT}", markup=False)


def _print_gains(tour: "Demo") -> None:
    """A table per metric with a row per recipe: its score, and its gain over the baseline."""
    view = results_view(tour.rows)
    gains = {recipe: tour.gains(recipe) for recipe in tour.recipes}
    for column in (metric_label(name) for name in GAINED):
        rows = []
        for model in view.models:
            gain = gains[model.model][column.name] if model.model in gains else None
            found = (*gain.per_seed, gain.mean) if gain else ()
            *by_seed, mean = (column.number(value, signed=True) for value in found) if gain else ("",)
            bounds = column.interval(gain.low, gain.high, signed=True) if gain else ""
            rows.append([model.model, view.text(model, column), mean, bounds, " ".join(by_seed)])
        print_rows([f"mean of {len(tour.seeds)} seeds", column.title, "gain", "95 % interval", "by seed"], rows)
        print_line("")
    _print_legend(tour)


def _print_legend(tour: "Demo") -> None:
    labels = [metric_label(name) for name in ("zero_shot_top1", *GAINED) if name in tour.chance]
    chance = ", ".join(f"{label.title} {label.number(tour.chance[label.name])}" for label in labels)
    print_line(f"Chance: {chance}.")
    # Fewer pairs than a block are one block.
    block = min(tour.config.evaluate.block_size, tour.num_test_pairs)
    print_line(f"{tour.num_test_pairs:,} held-out pairs; R@k in blocks of {block:,}; ± one standard error over pairs.")
    print_line("Gains are paired by seed; their intervals cover seeds and pairs.")
