"""What ``workbench runs show --gradients`` says of a run's losses."""

from typing import TYPE_CHECKING, Any

from workbench.terminal import visible

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.runs.directory import RunDirectory
    from workbench.views.gradients import GradientsView

NUM_SHOWN = 8  # diagnosed steps; all are in --json


def show_gradients(run: "RunDirectory", figure: "Path | None", *, prints: bool) -> dict[str, Any]:
    """The run's gradients as a document, drawn to ``figure`` where one is named, and printed as tables if asked for.

    Raises:
        ValueError: the run has none yet, or the figure cannot be written.
    """
    from workbench.cli.figure import write_figure
    from workbench.cli.output import print_line
    from workbench.figures.gradients import gradients_figure
    from workbench.runs.gradient_snapshots import read_gradient_history
    from workbench.views.gradients import gradients_view

    found = read_gradient_history(run)
    view = gradients_view(found.gradients)
    if prints:
        _print_pulls(view)
        _print_cosines(view)
        if found.num_skipped:
            print_line(f"{found.num_skipped} snapshots could not be read")
    if figure:
        write_figure(gradients_figure(view), figure)
        if prints:
            print_line(f"figure: {figure}")
    return view.to_json() | {"num_unreadable": found.num_skipped}


def _print_pulls(view: "GradientsView") -> None:
    from workbench.cli.output import print_line, print_rows, print_wrapped

    shown = view.thinned(NUM_SHOWN)
    rows = []
    for pull in (pull for pull in view.pulls if pull.step in shown):
        norms = (pull.image, pull.text, pull.image_tower, pull.text_tower)
        rows.append([str(pull.step), pull.loss, *(f"{norm:.3g}" for norm in norms), f"{pull.share:.1%}"])
    print_line("")
    print_wrapped(
        "Norms of every weighted loss's gradient at the embeddings and at the towers' weights, and its share:"
    )
    columns = ["step", "loss", "images", "texts", "image tower", "text tower", "share"]
    print_rows(columns, rows, num_words=2)
    if len(shown) < len(view.steps):
        print_line(f"{len(shown)} of {len(view.steps)} diagnosed steps; all with --json")


def _print_cosines(view: "GradientsView") -> None:
    from workbench.cli.output import print_line, print_rows, print_wrapped

    if len(view.losses) < 2:
        return
    rows = [
        [loss, *(_cosine(float(cosine)) for cosine in cosine_K)]
        for loss, cosine_K in zip(view.losses, view.tower_cosine_KK, strict=True)
    ]
    print_line("")
    print_wrapped(f"Gradient conflict: cosines at the towers' weights after step {view.step}, * where they are below 0")
    print_rows(["", *view.losses], rows)
    fights = ", ".join(f"{visible(fight.first)} and {visible(fight.second)}" for fight in view.fights)
    print_wrapped(f"fighting: {fights}" if fights else "none fight")


def _cosine(value: float) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}") + ("*" if value < 0 else " ")
