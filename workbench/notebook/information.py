"""``InformationExplorer``: bounds on the mutual information of student and teacher, over training and by batch size."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.events import EvalDone, Event, RunStarted, StepDone
from workbench.figures.information import information_over_time_figure, move_to_step
from workbench.notebook.explorer import Explorer, row, scale_slider, set_steps, step_slider
from workbench.notebook.probes import nearest
from workbench.notebook.source import open_run
from workbench.runs.directory import RunDirectory
from workbench.runs.log import read_history
from workbench.runs.snapshots import Probe, read_snapshot_history
from workbench.views.information import (
    InformationBounds,
    InformationOverTime,
    information_bounds,
    information_over_time,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_DRAWS = 200  # random batches; cheap for the few pairs of a probe


class InformationExplorer(Explorer):
    """ICL's bound on the mutual information of student and teacher, on training batches, held-out and probe pairs.

    Args:
        source: a run's id or path, a :class:`RunDirectory`, or probes.
        runs_dir: the runs folder; ``runs`` if not given.

    Attributes:
        selection: the step, 1/τ, and each pairing's bound with the most negatives.
    """

    def __init__(self, source: str | Path | RunDirectory | Sequence[Probe], runs_dir: Path | None = None) -> None:
        super().__init__()
        self._source, self._runs_dir = source, runs_dir
        self._probes: list[Probe] = []
        self._over_time: InformationOverTime | None = None
        self._learned_scales: dict[int, float] = {}
        self.step = step_slider()
        self.scale = scale_slider(14.3, "learned scale")
        self.own_scale = self.scale.own
        self.controls.children = (row(self.step, self.step.play), row(self.scale, self.own_scale))
        self.watch(self.step)
        self.watch_scale(self.scale)
        self.refresh()

    def load(self) -> None:
        if isinstance(self._source, str | Path | RunDirectory):
            self.run = open_run(self._source, self._runs_dir)
            self._probes = read_snapshot_history(self.run, Probe).found
            events = read_history(self.run, (RunStarted, StepDone, EvalDone)).events
            steps = [event for event in events if isinstance(event, StepDone)]
            self._learned_scales = {one.step: one.scales["icl"] for one in steps if "icl" in one.scales}
            self._over_time = _over_time(events)
        else:
            self._probes = sorted(self._source, key=lambda probe: probe.step)
        if not self._probes or self._probes[0].teacher is None:
            raise ValueError("no probe pairs of a student and a teacher: distill with --set evaluate.every_steps=20")
        set_steps(self.step, [probe.step for probe in self._probes])

    def draw(self) -> "Figure":
        self._describe()
        return information_over_time_figure(self._over_time, self.bounds, self.step.value)

    def update(self, figure: "Figure") -> bool:
        self._describe()
        move_to_step(figure, self.bounds, self.step.value)
        return True

    @property
    def bounds(self) -> dict[str, InformationBounds]:
        """The bounds in the right half of the figure, by pairing."""
        probe, scale = nearest(self._probes, self.step.value), self._scale
        teacher, student = probe.teacher, probe.student
        assert teacher is not None
        if student.image_PD.shape != teacher.image_PD.shape:
            raise ValueError(
                "student and teacher have different widths, and probes are not projected: use encode_pairs"
            )
        return {
            "teacher image → teacher text": _bounds(teacher.image_PD, teacher.text_PD, teacher.scale),
            "student image → teacher text": _bounds(student.image_PD, teacher.text_PD, scale),
            "student text → teacher image": _bounds(student.text_PD, teacher.image_PD, scale),
        }

    @property
    def selection(self) -> dict[str, Any]:
        """The step, 1/τ between student and teacher, and each pairing's bound with the most negatives, in nats."""
        self.check()
        found = self.bounds
        largest = next(iter(found.values()))
        return {
            "step": self.step.value,
            "scale": self._scale,
            "negatives": int(largest.num_negatives_N[-1]),
            "at most": float(largest.most_N[-1]),
            "bounds": {name: float(one.mean_N[-1]) for name, one in found.items()},
        }

    @property
    def _scale(self) -> float:
        """The slider's value; or the scale that icl has learned at this step; or, without icl, the student's scale."""
        if not self.own_scale.value:
            return float(self.scale.value)
        known = [step for step in self._learned_scales if step <= self.step.value]
        return self._learned_scales[max(known)] if known else nearest(self._probes, self.step.value).student.scale

    def _describe(self) -> None:
        num_pairs = len(self._probes[0].captions)
        self.note.value = (
            f"right: {num_pairs} probe pairs at 1/τ = {self._scale:.3g}; bars: 95 % of random batches of this size; "
            "hollow: from here on, the bound grows less than half as fast as log N"
        )


def _bounds(rows_PD: "np.ndarray[Any, Any]", columns_PD: "np.ndarray[Any, Any]", scale: float) -> InformationBounds:
    return information_bounds(rows_PD, columns_PD, scale, NUM_DRAWS)


def _over_time(events: Sequence[Event]) -> InformationOverTime | None:
    from workbench.evaluation.agreement import CONTRAST_SIZE
    from workbench.evaluation.ranks import block_slices

    num_pairs = max(
        (one.num_pairs for one in events if isinstance(one, EvalDone) and one.split == "validation"), default=0
    )
    blocks = block_slices(num_pairs, CONTRAST_SIZE) if num_pairs else []
    return information_over_time(events, [block.stop - block.start for block in blocks])
