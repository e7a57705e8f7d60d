"""What ``workbench runs show --gradients`` says of a run's losses."""

from typing import TYPE_CHECKING, Any

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
    from workbench.cli.output import print_line
    from workbench.runs.lineage import lineage
    from workbench.runs.liveness import run_status
    from workbench.runs.snapshots import read_gradients
    from workbench.views.gradients import gradients_view

    last_step = run_status(run).step  # a run that went on from an earlier checkpoint has not come to those beyond
    found = [(read_gradients(past.run), min(past.until_step, last_step)) for past in lineage(run)]
    view = gradients_view([g for snapshots, until in found for g in snapshots.gradients if g.step <= until])
    num_skipped = sum(snapshots.num_skipped for snapshots, _ in found)
    if prints:
        _print_pulls(view)
        _print_cosines(view)
        if num_skipped:
            print_line(f"{num_skipped} snapshots could not be read")
    if figure:
        _draw(view, figure)
        if prints:
            print_line(f"figure: {figure}")
    return view.to_json() | {"num_unreadable": num_skipped}


def _print_pulls(view: "GradientsView") -> None:
    from workbench.cli.output import print_line, print_rows

    shown = view.thinned(NUM_SHOWN)
    rows = []
    for pull in (pull for pull in view.pulls if pull.step in shown):
        norms = (pull.image, pull.text, pull.image_tower, pull.text_tower)
        rows.append([str(pull.step), pull.loss, *(f"{norm:.3g}" for norm in norms), f"{pull.share:.1%}"])
    print_line("\nNorms of every weighted loss's gradient at the embeddings and at the towers' weights, and its share:")
    columns = ["step", "loss", "images", "texts", "image tower", "text tower", "share"]
    print_rows(columns, rows, num_words=2)
    if len(shown) < len(view.steps):
        print_line(f"{len(shown)} of {len(view.steps)} diagnosed steps; all with --json")


def _print_cosines(view: "GradientsView") -> None:
    from workbench.cli.output import print_line, print_rows

    if len(view.losses) < 2:
        return
    rows = [
        [loss, *(_cosine(float(cosine)) for cosine in cosine_K)]
        for loss, cosine_K in zip(view.losses, view.tower_cosine_KK, strict=True)
    ]
    print_line(f"\nWho fights whom: cosines at the towers' weights after step {view.step}, * where they fight")
    print_rows(["", *view.losses], rows)
    fights = ", ".join(f"{fight.first} and {fight.second}" for fight in view.fights)
    print_line(f"fighting: {fights}" if fights else "none fight")


def _cosine(value: float) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}") + ("*" if value < 0 else " ")


def _draw(view: "GradientsView", file: "Path") -> None:
    from workbench.figures.gradients import gradients_figure
    from workbench.figures.save import save_figure

    try:
        save_figure(gradients_figure(view), file)
    except OSError as error:
        raise ValueError(f"cannot write {file}: {error.strerror or error}; name another with --figure FILE") from None
