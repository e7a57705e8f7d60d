"""The settings of a run that differ from each paper's whose losses it uses."""

from pathlib import Path
from typing import Any

from workbench.config.run import LossConfig, RunConfig
from workbench.config.toml import load_recipe, load_run_config
from workbench.documents import read_json
from workbench.losses.declared import declared_losses
from workbench.models.names import CONFIG
from workbench.runs.checkpoints import newest_checkpoint
from workbench.runs.directory import RunDirectory
from workbench.views.comparison import Departures, Paper, departures, papers


def run_departures(run: RunDirectory) -> list[Departures]:
    """The departures from each paper; a run without distillation is compared with CLIP-KD's baseline."""
    config = load_run_config(run.config_file)
    known = papers()
    used = [paper for paper in known if distilling(config, paper)] or known[:1]
    return [_departures(run, config, paper) for paper in used]


def distilling(config: RunConfig, paper: Paper) -> dict[str, LossConfig]:
    """The run's losses from the paper, without the CLIP loss, which both papers use."""
    theirs = {name for name, loss in declared_losses().items() if loss.paper.startswith(paper.name)} - {"clip"}
    return {name: loss for name, loss in config.loss.items() if loss.schedule.is_ever_on and name in theirs}


def _departures(run: RunDirectory, config: RunConfig, paper: Paper) -> Departures:
    recipe = load_recipe(paper.recipe)
    losses = {name: config.loss[name] for name in ("clip", *distilling(config, paper)) if name in config.loss}
    published, ours = recipe.model_dump(), config.model_dump()
    published["loss"] = {
        name: _settings(name, recipe.loss.get(name) or _published(name, loss)) for name, loss in losses.items()
    }
    ours["loss"] = {name: _settings(name, loss) for name, loss in losses.items()}
    # The image size is part of the model's folder, not of the run's config.
    if (checkpoint := newest_checkpoint(run)) is not None:
        published["student"]["image_size"] = paper.image_size
        ours["student"]["image_size"] = _image_size(checkpoint)
    if losses.keys() <= {"clip"}:  # the teacher has no effect
        del published["teacher"], ours["teacher"]
    return departures(paper, published, ours)


def _published(name: str, loss: LossConfig) -> LossConfig:
    """A loss of the paper that its recipe does not use, at its published weight, or else at the run's."""
    known = declared_losses()[name].published_weight
    for convention, weight in sorted(known.items(), reverse=True):  # "released" before "paper"
        return LossConfig.parse({"weight": weight, "convention": convention})
    return LossConfig(weight=loss.weight)


def _settings(name: str, loss: LossConfig) -> dict[str, Any]:
    """All settings of a loss, including those at their defaults."""
    defaults = declared_losses()[name].settings
    return defaults | loss.options() | {"weight": loss.model_dump()["weight"], "weight_at": loss.weight_at}


def _image_size(checkpoint: Path) -> int:
    """The student's image size, in pixels."""
    content = read_json(checkpoint / CONFIG)
    size: int = content["model_cfg"]["vision_cfg"]["image_size"]
    return size
