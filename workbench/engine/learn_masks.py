"""Automatic inheritance without distillation: learn pruning masks on some pairs, and return the pruned model."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.config.run import RunConfig
from workbench.config.study import flat
from workbench.config.toml import merge, recipe_table
from workbench.documents import Table
from workbench.events import Event, RunFinished, StageStarted

if TYPE_CHECKING:
    from workbench.inheritance.inheritance_map import InheritanceMap
    from workbench.models.clip import Clip

RECIPE = "tinyclip-auto"
OWN = {  # settings with a dedicated option
    "teacher.model": "--teacher",
    "data.train": "--data",
    "train.num_steps": "--steps",
    "student": "--teacher",
    "inheritance": "--auto",
}


def masks_config(
    teacher: str, data: str, sparsity: float, num_steps: int, plan: Mapping[str, Any], settings: Table
) -> RunConfig:
    """The config of a run that learns masks: the mask phase of the recipe tinyclip-auto on other models and pairs.

    Args:
        teacher: SPEC of the model to inherit from.
        data: SPEC of the pairs to learn the masks on.
        sparsity: target sparsity of the attention and FFN weights.
        num_steps: training steps for the masks.
        plan: pruning before the masks are learned, as a table of ``[inheritance]``.
        settings: other settings of the training, as tables.

    Raises:
        ValueError: invalid settings, with the remedy.
    """
    for setting in flat(settings):
        if taken := next((option for name, option in OWN.items() if f"{setting}.".startswith(f"{name}.")), ""):
            raise ValueError(f"--set {setting}: use {taken} instead")
    table = recipe_table(RECIPE)
    (stage,) = table["inheritance"]["stages"]
    stretch = num_steps / stage["mask_steps"]
    stage = {
        "sparsity": sparsity,
        "num_steps": num_steps + 1,
        "mask_steps": num_steps,
        "ramp_steps": max(1, round(stage["ramp_steps"] * stretch)),
        "learning_rate": stage["learning_rate"] / stretch,
    }
    changes = {
        "teacher": {"model": teacher},
        "data": {"train": data, "num_pairs": 0, "validation": "", "test": ""},
        "inheritance": {**plan, "stages": [stage]},
        "train": {"num_steps": num_steps + 1},
        "log": {"diagnose_every_steps": 0},
    }
    return RunConfig.parse(merge(merge(table, changes), settings))


class MaskLearning:
    """The mask phase of a run of :func:`masks_config`; iterate it, then take :attr:`student`."""

    student: "Clip"
    inheritance_map: "InheritanceMap"

    def __init__(self, config: RunConfig, runs_dir: Path) -> None:
        from workbench.engine.build import build_cohort

        self.num_steps = config.train.num_steps - 1  # the last step is of the phase after the masks
        self._cohort = build_cohort({"masks": config}, runs_dir=runs_dir)

    def __iter__(self) -> Iterator[Event]:
        """Train; sets :attr:`student` and :attr:`inheritance_map` at the end.

        Raises:
            ValueError: the training diverged, with the step.
        """
        from workbench.engine.loop import train

        for event in train(self._cohort):
            if isinstance(event, RunFinished):
                raise ValueError(f"no masks were learned: {event.reason}")
            if isinstance(event, StageStarted) and not event.learns_masks:
                break
            yield event
        (member,) = self._cohort.members
        assert member.inheritance_map is not None
        self.student, self.inheritance_map = member.state.student.eval(), member.inheritance_map
