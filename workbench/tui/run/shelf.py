"""The snapshots of one run, read again only when there are new ones."""

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.figures.style import palette
from workbench.runs.directory import RunDirectory
from workbench.runs.gradient_snapshots import read_gradient_history
from workbench.runs.mask_snapshots import MaskSnapshot, read_mask_history
from workbench.runs.probe_snapshots import Probe, read_probe_history
from workbench.tui.charts.plot import Curve, Plot
from workbench.tui.charts.raster import Floats
from workbench.tui.run.feed import Story
from workbench.views.gradients import GradientsView, gradients_view
from workbench.views.mask_timeline import MaskTimeline, mask_timeline

NO_GRADIENTS = "no gradients measured yet: log.diagnose_every_steps says how often they are"
NO_MASKS = "this run learns no masks and inherits nothing, or has not begun: see the recipe tinyclip-auto"


@dataclass
class Shelf:
    """What lies in a run's ``snapshots/``. :meth:`read` may take seconds where there are thousands."""

    run: RunDirectory
    gradients: GradientsView | None = None
    masks: tuple[MaskSnapshot, ...] = ()
    timeline: MaskTimeline | None = None
    probes: tuple[Probe, ...] = ()
    num_skipped: int = 0
    num_readings: int = 0
    _seen: frozenset[str] | None = None

    def is_stale(self) -> bool:
        """Whether there are files that were not there at the last reading."""
        return _names(self.run) != self._seen

    def read(self) -> None:
        """Reads all that is there."""
        seen = _names(self.run)
        try:
            gradients, masks = read_gradient_history(self.run), read_mask_history(self.run)
            probes = read_probe_history(self.run)
        except (OSError, ValueError):  # the run is being removed or cannot be read; the feed says so
            return
        self._seen = seen
        self.num_skipped = gradients.num_skipped + masks.num_skipped + probes.num_skipped
        self.gradients = gradients_view(gradients.gradients) if gradients.gradients else None
        self.masks, self.probes = tuple(masks.snapshots), tuple(probes.probes)
        self.timeline = mask_timeline(self.masks) if len(self.masks) > 1 else None
        self.num_readings += 1  # the last: whoever sees it sees all

    def mask_at(self, step: float | None) -> int | None:
        """The place of the newest mask that is not younger than ``step``; of the newest of all for None."""
        if not self.masks:
            return None
        if step is None:
            return len(self.masks) - 1
        return max(0, sum(mask.step <= step for mask in self.masks) - 1)


def share_plot(view: GradientsView | None, story: Story) -> Plot:
    """Each loss's share of the gradient over time."""
    if view is None:
        return Plot("share of the gradient", empty=NO_GRADIENTS)
    colours = palette(list(view.shares))
    curves = [
        Curve(name, colours[name], series.step.astype(np.float64), elapsed_at(series.step, story), 100 * series.value)
        for name, series in view.shares.items()
    ]
    return Plot("share of the gradient at the towers' weights", tuple(curves), "%")


def elapsed_at(step: NDArray[np.int64], story: Story) -> Floats:
    """Seconds of training at steps, between those that were logged; as many as the steps where none was."""
    total = story.traces.get(("loss", "total"))
    if total is None or not len(total):
        return step.astype(np.float64)
    found: Floats = np.interp(step, total.series.step, total.elapsed_s)
    return found


def step_at(elapsed_s: float, story: Story) -> float:
    """The step that was under way after so many seconds of training."""
    total = story.traces.get(("loss", "total"))
    if total is None or not len(total):
        return elapsed_s
    return float(np.interp(elapsed_s, total.elapsed_s, total.series.step))


def _names(run: RunDirectory) -> frozenset[str]:
    try:
        return frozenset(os.listdir(run.snapshots))  # noqa: PTH208 - names are all that is asked, every few seconds
    except OSError:
        return frozenset()
