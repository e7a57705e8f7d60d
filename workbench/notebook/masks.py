"""``MaskExplorer``: a run's pruning masks over training, the student that they leave, and its quality."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import ipywidgets as widgets
import numpy as np

from workbench.errors import unknown
from workbench.figures.architecture import (
    architecture_figure,
    mask_timeline_figure,
    pruned_figure,
    threshold_figure,
)
from workbench.notebook.controls import buttons, row, set_steps, step_slider
from workbench.notebook.explorer import Explorer, default_runs_dir, open_run
from workbench.notebook.released import is_model, model_masks
from workbench.runs.directory import RunDirectory
from workbench.runs.log import read_history
from workbench.runs.snapshots import MaskSnapshot, read_snapshot_history
from workbench.views.architecture import Architecture, architecture, overlap_of_runs, pick
from workbench.views.masks import cut_at, mask_timeline, pruned, removed, sizes

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

Show = Literal["layers", "over time", "size by threshold", "accuracy"]
METRIC = "image_to_text_r1"
THRESHOLDS_N = np.linspace(0, 1, 101)


class MaskExplorer(Explorer):
    """What the student of a run with weight inheritance keeps of its teacher, at each mask snapshot.

    Args:
        source: a run's id or path, a :class:`RunDirectory`, the snapshots themselves, or the SPEC of a model without a
            run, whose parts are recovered from its weights and the teacher's.
        show: "layers" (TinyCLIP's figure 8), "over time", "size by threshold" or "accuracy" (against sparsity).
        runs_dir: the runs folder; ``runs`` if not given.
        teacher: SPEC of the model that a model without a run inherits from.

    Attributes:
        selection: the step, the shapes of the pruned towers, and the kept share of the weights.

    Raises:
        ValueError: an unknown figure.
    """

    def __init__(
        self,
        source: str | Path | RunDirectory | Sequence[MaskSnapshot],
        show: Show = "layers",
        runs_dir: Path | None = None,
        teacher: str = "",
    ) -> None:
        super().__init__()
        if show not in get_args(Show):
            raise unknown("figure", show, get_args(Show))
        self._source, self._runs_dir, self._teacher = source, runs_dir, teacher
        self._snapshots: list[MaskSnapshot] = []
        self.show = buttons(get_args(Show), show)
        self.step = step_slider()
        self.cut = widgets.Checkbox(description="cut at the threshold", indent=False, value=False)
        self.cut.layout.width = "auto"
        self.threshold = widgets.FloatSlider(value=0.5, min=0, max=1, step=0.01, description="threshold")
        self.controls.children = (self.show, row(self.step, self.step.play), row(self.threshold, self.cut))
        self.watch(self.show, self.step, self.cut)
        self.threshold.observe(self.guard(self._choose_threshold), names="value")
        self.refresh()

    def load(self) -> None:
        source, runs_dir = self._source, self._runs_dir or default_runs_dir()
        if isinstance(source, str | Path) and is_model(source, runs_dir):
            source = [model_masks(str(source), self._teacher, runs_dir)]
        self._snapshots = self.read(source, self._runs_dir, MaskSnapshot)
        pick(self._snapshots)
        set_steps(self.step, [snapshot.step for snapshot in self._snapshots])

    def draw(self) -> "Figure":
        self._describe()
        if self.show.value == "layers":
            return architecture_figure(self.architecture, self.earlier)
        if self.show.value == "over time":
            return mask_timeline_figure(mask_timeline(self._snapshots))
        if self.show.value == "size by threshold":
            kept_N = sizes(self.snapshot, THRESHOLDS_N.tolist())
            return threshold_figure(
                THRESHOLDS_N, kept_N, self.threshold.value, 1 - self.snapshot.sparsity, self.earlier
            )
        if self.run is None:
            raise ValueError("accuracy needs a run's evaluations: pass its id or path instead of snapshots")
        return pruned_figure(pruned(self._snapshots, read_history(self.run).events, METRIC))

    @property
    def snapshot(self) -> MaskSnapshot:
        """The masks at the selected step."""
        return next(one for one in self._snapshots if one.step == self.step.value)

    @property
    def architecture(self) -> Architecture:
        """The pruned towers at the selected step: as the run would prune them, or at the threshold."""
        return cut_at(self.snapshot, self.threshold.value) if self.cut.value else architecture(self.snapshot)

    @property
    def selection(self) -> dict[str, Any]:
        """The step, its stage, the kept share of the weights, and the shapes of the towers."""
        self.check()
        view = self.architecture
        return {
            "step": self.snapshot.step,
            "stage": self.snapshot.stage + 1,
            "threshold": self.threshold.value if self.cut.value else None,
            "left": 1 - view.sparsity,
            "towers": {tower: change.student for tower, change in view.towers.items()},
        }

    def removed(self) -> "DataFrame":
        """What each stage removed from each tower, as a table."""
        from pandas import DataFrame

        self.check()
        columns = ["stage", "tower", "part", "before", "after", "removed (% of teacher)"]
        rows = [
            (one.stage, one.tower, one.part, one.before, one.after, round(100 * one.gone, 1))
            for one in removed(self._snapshots)
        ]
        return DataFrame(rows, columns=columns)

    def overlap(self, other: str | Path) -> "DataFrame":
        """The share of the kept parts that another run or rule also keeps, next to its expectation by chance.

        Args:
            other: a run's id or path; the rule "magnitude" or "leading", which need the teacher; or the SPEC of a model
                without a run, with ``teacher``.

        Raises:
            ValueError: the two cannot be compared.
        """
        from pandas import DataFrame

        self.check()
        rows = [
            (tower, group, round(100 * one.shared, 1), round(100 * one.chance, 1))
            for tower, groups in self._overlaps(other).items()
            for group, one in groups.items()
        ]
        return DataFrame(rows, columns=["tower", "part", "shared (%)", "by chance (%)"])

    def _overlaps(self, other: str | Path) -> Any:
        runs_dir = self._runs_dir or default_runs_dir()
        if other not in ("magnitude", "leading") and is_model(other, runs_dir):
            return overlap_of_runs(self.snapshot, model_masks(str(other), self._teacher, runs_dir))
        if other not in ("magnitude", "leading"):
            snapshots = read_snapshot_history(open_run(other, self._runs_dir), MaskSnapshot).snapshots
            return overlap_of_runs(self.snapshot, pick(snapshots))
        from workbench.config.toml import load_run_config
        from workbench.inheritance.manual import overlaps_with_rule
        from workbench.models.spec import load_model

        if self.run is None and not self._teacher:
            raise ValueError(f"rule '{other}' needs the teacher's weights: pass a run instead of snapshots")
        if self.run is None:
            spec, runs_dir = self._teacher, self._runs_dir or default_runs_dir()
        else:
            config, runs_dir = load_run_config(self.run.config_file), self.run.path.parent
            spec = config.inheritance.source or config.teacher.model
        teacher = load_model(spec, runs_dir=runs_dir)
        return overlaps_with_rule(teacher, self.snapshot, "magnitude" if other == "magnitude" else "leading")

    def _choose_threshold(self) -> None:
        """Moving the slider turns pruning at the threshold on."""
        if self.cut.value or self.show.value != "layers":
            self.redraw()
        else:
            self.cut.value = True

    def _describe(self) -> None:
        """Show the selected step as text."""
        snapshot, view = self.snapshot, self.architecture
        masks = "masks are being learned" if snapshot.learning else "masks are fixed"
        cut = f"; cut at {self.threshold.value:.2f}" if self.cut.value else ""
        self.note.value = (
            f"stage {snapshot.stage + 1}, step {snapshot.step:,}: {masks}, {1 - snapshot.sparsity:.1%} of the weights "
            f"expected to stay (target: {1 - snapshot.target:.1%}){cut}: <b>{1 - view.sparsity:.1%} kept</b>"
        )
