"""What ``workbench runs show --departures`` says: the settings of a run that are not its paper's."""

from typing import TYPE_CHECKING, Any

from workbench.terminal import visible

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.config.run import LossConfig, RunConfig
    from workbench.runs.directory import RunDirectory
    from workbench.views.departures import Departures, Paper
    from workbench.views.gradients import GradientsView


# What ``workbench runs show --gradients`` says of a run's losses.

NUM_SHOWN = 8  # diagnosed steps; all are in --json


def show_gradients(run: "RunDirectory", figure: "Path | None", *, prints: bool) -> dict[str, Any]:
    """The run's gradients as a document, drawn to ``figure`` where one is named, and printed as tables if asked for.

    Raises:
        ValueError: the run has none yet, or the figure cannot be written.
    """
    from workbench.cli.options import write_figure
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
    for pull in (pull for pull in view.norms if pull.step in shown):
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
    fights = ", ".join(f"{visible(fight.first)} and {visible(fight.second)}" for fight in view.conflicts)
    print_wrapped(f"fighting: {fights}" if fights else "none fight")


def _cosine(value: float) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}") + ("*" if value < 0 else " ")


INDENT = "    "


def show_departures(run: "RunDirectory", *, prints: bool) -> list[dict[str, Any]]:
    """Every setting that is not the paper's, for each paper whose losses the run uses; printed if asked for."""
    from workbench.config.toml import load_run_config
    from workbench.views.departures import papers

    config = load_run_config(run.config_file)
    known = papers()
    used = [paper for paper in known if _distilling(config, paper)] or known[:1]  # CLIP-KD's baseline distils nothing
    found = [_departures(run, config, paper) for paper in used]
    if prints:
        for departures in found:
            _print(departures)
    return [departures.to_json() for departures in found]


def _distilling(config: "RunConfig", paper: "Paper") -> dict[str, "LossConfig"]:
    """The run's losses that are the paper's, but for the task loss, which both papers have."""
    from workbench.losses.declared import declared_losses

    theirs = {name for name, loss in declared_losses().items() if loss.paper.startswith(paper.name)} - {"clip"}
    return {name: loss for name, loss in config.loss.items() if loss.schedule.is_ever_on and name in theirs}


def _departures(run: "RunDirectory", config: "RunConfig", paper: "Paper") -> "Departures":
    from workbench.config.toml import load_recipe
    from workbench.runs.checkpoints import newest_checkpoint
    from workbench.views.departures import departures

    recipe = load_recipe(paper.recipe)
    losses = {name: config.loss[name] for name in ("clip", *_distilling(config, paper)) if name in config.loss}
    published, ours = recipe.model_dump(), config.model_dump()
    published["loss"] = {
        name: _settings(name, recipe.loss.get(name) or _published(name, loss)) for name, loss in losses.items()
    }
    ours["loss"] = {name: _settings(name, loss) for name, loss in losses.items()}
    if (checkpoint := newest_checkpoint(run)) is not None:
        published["student"]["image_size"] = paper.image_size
        ours["student"]["image_size"] = _image_size(checkpoint)
    if losses.keys() <= {"clip"}:  # then the teacher does not teach
        del published["teacher"], ours["teacher"]
    return departures(paper, published, ours)


def _published(name: str, loss: "LossConfig") -> "LossConfig":
    """A loss of the paper that its recipe leaves out, as it was released; at the run's weight if none is known."""
    from workbench.config.run import LossConfig
    from workbench.losses.declared import declared_losses

    known = declared_losses()[name].published_weight
    for convention, weight in sorted(known.items(), reverse=True):  # "released" before "paper"
        return LossConfig.parse({"weight": weight, "convention": convention})
    return LossConfig(weight=loss.weight)


def _settings(name: str, loss: "LossConfig") -> dict[str, Any]:
    """Every setting of a loss, those that are left at their defaults too."""
    from workbench.losses.declared import declared_losses

    defaults = declared_losses()[name].settings
    return defaults | loss.options() | {"weight": loss.model_dump()["weight"], "weight_at": loss.weight_at}


def _image_size(checkpoint: "Path") -> int:
    """The size of the pictures that a student is made for."""
    from workbench.documents import read_json
    from workbench.models.names import CONFIG

    content = read_json(checkpoint / CONFIG)
    size: int = content["model_cfg"]["vision_cfg"]["image_size"]
    return size


def _print(found: "Departures") -> None:
    from workbench.cli.output import print_line, print_wrapped
    from workbench.views.comparison import setting_text

    paper = found.paper
    print_line(f"\nsettings that are not {paper.name}'s (recipe {paper.recipe}):")
    for departure in found.departures:
        theirs, ours = setting_text(departure.paper), setting_text(departure.run)
        print_wrapped(f"{departure.setting}: {theirs} in the paper, {ours} here")
        print_wrapped(departure.why, INDENT)
    print_line(f"{found.num_compared - len(found.departures)} of {found.num_compared} settings are the paper's")
