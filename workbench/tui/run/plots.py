"""What a run has said -> the plots of each pane."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from workbench.events import Commanded, EvalDone, Event, StageStarted
from workbench.figures.style import palette
from workbench.runs.directory import RunDirectory
from workbench.runs.gradient_snapshots import read_gradient_history
from workbench.runs.mask_snapshots import MaskSnapshot, read_mask_history
from workbench.runs.snapshots import Probe, read_probe_history
from workbench.tui.charts.plot import INK, Curve, Mark, Plot, curve
from workbench.tui.charts.raster import Floats
from workbench.tui.run.follow import RunHistory
from workbench.views.curves import Trace
from workbench.views.gradients import GradientsView, gradients_view
from workbench.views.masks import MaskTimeline, mask_timeline
from workbench.views.metrics import MetricLabel, in_order, metric_label

# The snapshots of one run, read again only when there are new ones.

NO_GRADIENTS = "no gradients measured yet: log.diagnose_every_steps says how often they are"
NO_MASKS = "this run learns no masks and inherits nothing, or has not begun: see the recipe tinyclip-auto"


@dataclass
class SnapshotReader:
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


def share_plot(view: GradientsView | None, story: RunHistory) -> Plot:
    """Each loss's share of the gradient over time."""
    if view is None:
        return Plot("share of the gradient", empty=NO_GRADIENTS)
    colors = palette(list(view.shares))
    curves = [
        Curve(name, colors[name], series.step.astype(np.float64), elapsed_at(series.step, story), 100 * series.value)
        for name, series in view.shares.items()
    ]
    return Plot("share of the gradient at the towers' weights", tuple(curves), "%")


def elapsed_at(step: NDArray[np.int64], story: RunHistory) -> Floats:
    """Seconds of training at steps, between those that were logged; as many as the steps where none was."""
    total = story.traces.get(("loss", "total"))
    if total is None or not len(total):
        return step.astype(np.float64)
    found: Floats = np.interp(step, total.series.step, total.elapsed_s)
    return found


def step_at(elapsed_s: float, story: RunHistory) -> float:
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


FAMILIES = (("", r"(.+) (R@\d+|top-\d+)"), ("cosine to the teacher's embeddings", r"()(.+) cosine"))
SPEED_PLOTS = (
    ("pairs_per_s", "throughput", "pairs/s", 1.0),
    ("step_time_s", "time of a step", "ms", 1000.0),
    ("peak_mb", "peak memory", "MB", 1.0),
    ("learning_rate", "learning rate", "", 1.0),
    ("grad_norm", "norm of the gradient", "", 1.0),
)


def colored(traces: Mapping[str, Trace], factor: float = 1.0) -> tuple[Curve, ...]:
    """Curves in the colours that their names have in every figure; "total" in the colour of text."""
    colors = palette([name for name in traces if name != "total"])
    return tuple(curve(name, colors.get(name, INK), trace, factor) for name, trace in traces.items())


def loss_plots(story: RunHistory) -> list[Plot]:
    """The loss with every weighted term; and the terms before weighting where that is another picture."""
    marks = tuple(_marks(story))
    weighted, unweighted = story.group("loss"), story.group("unweighted")
    plots = [
        Plot(
            "loss and its weighted terms" if len(weighted) > 2 else "loss",
            colored(weighted),
            marks=marks,
            may_log=True,
            may_smooth=True,
            empty="no loss yet: it comes with the first logged step",
        )
    ]
    if any(unweighted[name].last != weighted[name].last for name in unweighted if name in weighted):
        plots.append(Plot("terms before weighting", colored(unweighted), marks=marks, may_log=True, may_smooth=True))
    return plots


def metric_plots(story: RunHistory) -> list[Plot]:
    """A plot for metrics of a kind, such as R@1, R@5 and R@10 of one direction, on every split."""
    families: dict[str, list[Curve]] = {}
    units: dict[str, str] = {}
    for split in story.splits:
        traces = story.group(f"metrics/{split}")
        for name in in_order(set(traces)):
            label = metric_label(name)
            family, short = _family(label)
            units[family] = label.unit
            shown_as = short if split == "validation" and short else f"{short} {split}".strip()
            families.setdefault(family, []).append(curve(shown_as, INK, traces[name], label.factor))
    marks = tuple(_marks(story))
    plots = [Plot(family, _recolored(curves), units[family], marks) for family, curves in families.items()]
    return plots or [Plot("metrics", empty="no evaluation yet: set evaluate.every_steps to have them on the way")]


def _family(label: MetricLabel) -> tuple[str, str]:
    """What a metric is drawn together with, and what it is called there; empty for one that is drawn alone."""
    for family, pattern in FAMILIES:
        if found := re.fullmatch(pattern, label.label):
            return family or found[1], found[2]
    return label.label, ""


def _recolored(curves: list[Curve]) -> tuple[Curve, ...]:
    colors = palette([one.name for one in curves])
    return tuple(replace(one, colour=colors[one.name]) for one in curves)


def speed_plots(story: RunHistory) -> list[Plot]:
    """Throughput, step time, memory, learning rate, gradient norm and scales."""
    speed, scales = story.group("speed"), story.group("scales")
    marks = tuple(_marks(story))
    plots = [
        Plot(
            title,
            colored({title: speed[name]}, factor),
            unit,
            marks,
            may_log=name == "grad_norm",
            may_smooth=name in ("pairs_per_s", "step_time_s", "grad_norm"),
        )
        for name, title, unit, factor in SPEED_PLOTS
        if name in speed
    ]
    if scales:
        plots.append(Plot("scales", colored(scales), "1/τ", marks))
    return plots or [Plot("speed", empty="nothing measured yet: it comes with the first logged step")]


def mask_plots(story: RunHistory) -> list[Plot]:
    """Sparsity against its target while masks are learnt, and the constraint's multipliers."""
    masks = story.group("masks")
    wanted: dict[str, Trace] = {name: masks[name] for name in ("sparsity", "target") if name in masks}
    multipliers = {
        name.removesuffix("_multiplier"): trace for name, trace in masks.items() if name.endswith("_multiplier")
    }
    marks = tuple(_marks(story))
    plots = [Plot("sparsity", colored(wanted, 100), "%", marks)] if wanted else []
    if multipliers:
        plots.append(Plot("multipliers of the constraint", colored(multipliers), marks=marks))
    return plots


def _marks(story: RunHistory) -> list[Mark]:
    """Commands that changed something, and stages, at the training time of the nearest logged step."""
    found = [event for event in story.notes if isinstance(event, Commanded | StageStarted) and event.step]
    total = story.traces.get(("loss", "total"))
    if not found or total is None or not len(total):
        return []
    steps, elapsed_s = total.series.step, total.elapsed_s
    places = [min(len(steps) - 1, int(steps.searchsorted(event.step))) for event in found]
    return [
        Mark(float(event.step), float(elapsed_s[place]), note_text(event))
        for event, place in zip(found, places, strict=True)
    ]


def note_text(event: Event) -> str:
    """What an event says, in a line."""
    if isinstance(event, EvalDone):
        return f"evaluated on {event.split}"
    if isinstance(event, StageStarted):
        return event.name
    if isinstance(event, Commanded):
        arguments = ", ".join(f"{name} = {value}" for name, value in getattr(event, "arguments", {}).items())
        return f"told to {event.command}" + (f" {arguments}" if arguments else "")
    fields = event.model_dump(exclude={"run", "step", "time_s", "event"})
    said = {name: value for name, value in fields.items() if value not in ("", {}, None)}
    if "message" in said:
        return str(said["message"])
    if "path" in said:
        said["path"] = PurePath(said["path"]).name
    known = {
        "RunStarted": "started on {host}: {num_steps:,} steps of {batch_size} pairs, {num_parameters:,} parameters",
        "RunResumed": "resumed on {host} as process {pid}",
        "CheckpointSaved": "saved {path}",
        "RunFinished": "{state}",
        "Forked": "forked from {parent} after step {parent_step}",
    }
    kind = str(getattr(event, "event", type(event).__name__))
    if kind not in known:
        return f"{kind} {said}"
    text = known[kind].format(**said)
    return f"{text}: {said['reason']}" if "reason" in said else text
