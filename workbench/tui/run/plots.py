"""The plots of a run's panes: losses, metrics, speed, masks and gradient shares."""

import re
from collections.abc import Mapping
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from workbench.events import Commanded, Event, StageStarted
from workbench.figures.style import palette
from workbench.tui.charts.plot import INK, Curve, Mark, Plot, curve
from workbench.tui.charts.raster import Floats
from workbench.tui.follow import RunHistory
from workbench.views.curves import Trace
from workbench.views.gradients import GradientsView
from workbench.views.metrics import MetricLabel, in_order, metric_label

NO_GRADIENTS = "no gradients measured yet: log.diagnose_every_steps sets how often they are"
NO_MASKS = "this run learns no masks and inherits no weights, or has not started: see the recipe tinyclip-auto"


def share_plot(view: GradientsView | None, history: RunHistory) -> Plot:
    """Each loss's share of the gradient norm, in percent."""
    if view is None:
        return Plot("share of the gradient", empty=NO_GRADIENTS)
    colors = palette(list(view.shares))
    curves = [
        Curve(name, colors[name], series.step.astype(np.float64), elapsed_at(series.step, history), 100 * series.value)
        for name, series in view.shares.items()
    ]
    return Plot("share of the gradient at the towers' weights", tuple(curves), "%")


def elapsed_at(step: NDArray[np.int64], history: RunHistory) -> Floats:
    """Seconds of training at each step [N], interpolated between logged steps; the steps themselves if none was."""
    total = history.traces.get(("loss", "total"))
    if total is None or not len(total):
        return step.astype(np.float64)
    found: Floats = np.interp(step, total.series.step, total.elapsed_s)
    return found


def step_at(elapsed_s: float, history: RunHistory) -> float:
    """The step after ``elapsed_s`` seconds of training, interpolated; inverse of :func:`elapsed_at`."""
    total = history.traces.get(("loss", "total"))
    if total is None or not len(total):
        return elapsed_s
    return float(np.interp(elapsed_s, total.elapsed_s, total.series.step))


# Metrics drawn in one plot: (its title, or empty for the first group; pattern of (title, curve name) in the label).
FAMILIES = (("", r"(.+) (R@\d+|top-\d+)"), ("cosine to the teacher's embeddings", r"()(.+) cosine"))
TEST = "test"  # ends the name of a curve on the test pairs
SPEED_PLOTS = (
    ("pairs_per_s", "throughput", "pairs/s", 1.0),
    ("step_time_s", "step time", "ms", 1000.0),
    ("peak_mb", "peak memory", "MB", 1.0),
    ("learning_rate", "learning rate", "", 1.0),
    ("grad_norm", "gradient norm", "", 1.0),
)


def colored(traces: Mapping[str, Trace], factor: float = 1.0) -> tuple[Curve, ...]:
    """Curves in the colors of the figures, by name; "total" in the text color; all splits of a metric in one color."""
    own = {name: name.removesuffix(TEST).strip() for name in traces}
    colors = palette([name for name in dict.fromkeys(own.values()) if name != "total"])
    return tuple(curve(name, colors.get(own[name], INK), trace, factor) for name, trace in traces.items())


def loss_plots(history: RunHistory) -> list[Plot]:
    """The loss with its weighted terms; and the terms before weighting, if any weight differs from 1."""
    marks = _marks(history)
    weighted, unweighted = history.group("loss"), history.group("unweighted")
    plots = [
        Plot(
            "loss and its weighted terms" if len(weighted) > 2 else "loss",
            colored(weighted),
            marks=marks,
            may_log=True,
            may_smooth=True,
            empty="no loss logged yet",
        )
    ]
    if any(unweighted[name].last != weighted[name].last for name in unweighted if name in weighted):
        plots.append(Plot("terms before weighting", colored(unweighted), marks=marks, may_log=True, may_smooth=True))
    return plots


def metric_plots(history: RunHistory) -> list[Plot]:
    """A plot per family of metrics, such as R@1, R@5 and R@10 of one direction, on every split."""
    families: dict[str, tuple[MetricLabel, dict[str, Trace]]] = {}
    for split in history.splits:
        traces = history.group(f"metrics/{split}")
        for name in in_order(set(traces)):
            label = metric_label(name)
            family, short = _family(label)
            shown_as = short if split == "validation" and short else f"{short} {split}".strip()
            families.setdefault(family, (label, {}))[1][shown_as] = traces[name]
    marks = _marks(history)
    plots = [
        Plot(family, colored(traces, label.factor), label.unit, marks) for family, (label, traces) in families.items()
    ]
    return plots or [Plot("metrics", empty="no evaluation yet: set evaluate.every_steps to evaluate during training")]


def _family(label: MetricLabel) -> tuple[str, str]:
    """The title of a metric's plot, and its curve's name there; the name is empty if it has a plot to itself."""
    for family, pattern in FAMILIES:
        if found := re.fullmatch(pattern, label.label):
            return family or found[1], found[2]
    return label.label, ""


def speed_plots(history: RunHistory) -> list[Plot]:
    """Throughput, step time, memory, learning rate, gradient norm, scales and the bias of the sigmoid loss."""
    speed, scales = history.group("speed"), history.group("scales")
    marks = _marks(history)
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
    if biases := history.group("bias"):
        plots.append(Plot("bias of the logits", colored(biases), "", marks))
    return plots or [Plot("speed", empty="no step logged yet")]


def mask_plots(history: RunHistory) -> list[Plot]:
    """Sparsity against its target while masks are learned, and the constraint's multipliers."""
    masks = history.group("masks")
    wanted: dict[str, Trace] = {name: masks[name] for name in ("sparsity", "target") if name in masks}
    multipliers = {
        name.removesuffix("_multiplier"): trace for name, trace in masks.items() if name.endswith("_multiplier")
    }
    marks = _marks(history)
    plots = [Plot("sparsity", colored(wanted, 100), "%", marks)] if wanted else []
    if multipliers:
        plots.append(Plot("multipliers of the constraint", colored(multipliers), marks=marks))
    return plots


def _marks(history: RunHistory) -> tuple[Mark, ...]:
    """Marks for commands and stages, at the training time of the next logged step."""
    found = [event for event in history.notes if isinstance(event, Commanded | StageStarted) and event.step]
    total = history.traces.get(("loss", "total"))
    if not found or total is None or not len(total):
        return ()
    places = np.minimum(total.series.step.searchsorted([event.step for event in found]), len(total) - 1)
    times_s = total.elapsed_s[places].tolist()
    return tuple(Mark(event.step, time_s, note_text(event)) for event, time_s in zip(found, times_s, strict=True))


def note_text(event: Event) -> str:
    """An event in one line."""
    if isinstance(event, StageStarted):
        return event.name
    if isinstance(event, Commanded):
        arguments = ", ".join(f"{name} = {value}" for name, value in getattr(event, "arguments", {}).items())
        return f"command: {event.command}" + (f" {arguments}" if arguments else "")
    fields = event.model_dump(exclude={"run", "step", "time_s", "event"})
    values = {name: value for name, value in fields.items() if value not in ("", {}, None)}
    if "message" in values:
        return str(values["message"])
    if "path" in values:
        values["path"] = PurePath(values["path"]).name
    known = {
        "RunStarted": "started on {host}: {num_steps:,} steps of {batch_size} pairs, {num_parameters:,} parameters",
        "RunResumed": "resumed on {host} as process {pid}",
        "CheckpointSaved": "saved {path}",
        "RunFinished": "{state}",
        "Forked": "forked from {parent} after step {parent_step}",
    }
    kind = str(getattr(event, "event", type(event).__name__))
    if kind not in known:
        return f"{kind} {values}"
    text = known[kind].format(**values)
    return f"{text}: {values['reason']}" if "reason" in values else text
