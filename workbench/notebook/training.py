"""``train`` and ``TrainingExplorer``: start a run in a child process and follow it in a chart."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from workbench.config.toml import load_recipe
from workbench.events import EvalDone, Event, RunFinished, StepDone
from workbench.figures.training import training_figure
from workbench.formatting import duration
from workbench.notebook.explorer import Explorer, Stamp, row, stamp_of
from workbench.notebook.process import Bar, Child
from workbench.notebook.source import default_runs_dir, open_run
from workbench.runs.directory import RunDirectory, new_run_id
from workbench.runs.liveness import TAKES_COMMANDS, RunStatus, run_status, send_command
from workbench.runs.log import read_history
from workbench.views.curves import Curves, Series, curves, smooth
from workbench.views.metrics import in_order, metric_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST_METRIC = "image_to_text_r1"


def train(
    recipe: str,
    *,
    steps: int | None = None,
    settings: Sequence[str] = (),
    name: str = "",
    runs_dir: Path | None = None,
) -> "TrainingExplorer":
    """Train a student in a child process, which stops when the kernel ends, and follow it.

    Args:
        recipe: a recipe's name or file.
        steps: number of training steps; phases and ramps are scaled in proportion.
        settings: such as "loss.fd.weight=2", as for ``--set``.
        name: the run's id; made from the recipe and the time if not given.
        runs_dir: the runs folder; ``runs`` if not given.

    Raises:
        ValueError: an invalid setting or loss, or an id in use. Later errors are shown by the explorer.
    """
    from workbench.engine.launch import create
    from workbench.losses.objective import Objective

    config = load_recipe(recipe, list(settings), steps=steps)
    Objective(
        config.loss, config.train.batch_size, 1 if config.teacher.model else None
    )  # raises here, not in the child
    folder = default_runs_dir() if runs_dir is None else runs_dir
    run = create(name or new_run_id(recipe, config.seed, folder), config, folder)
    return TrainingExplorer(run, Child(["runs", "resume", str(run.path)], run.output_file))


class TrainingExplorer(Explorer):
    """A run in training: its losses, a metric, the remaining time, and a stop button.

    Args:
        source: a run's id or path, or a :class:`RunDirectory`; running or ended.
        child: the process that trains it, if the notebook started it.
        runs_dir: the runs folder; ``runs`` if not given.

    Attributes:
        selection: the state, the step, the losses of the newest step, and the newest metrics by split.
    """

    def __init__(
        self, source: str | Path | RunDirectory, child: Child | None = None, runs_dir: Path | None = None
    ) -> None:
        super().__init__(open_run(source, runs_dir))
        self._child = child
        self._events: list[Event] = []
        self._failure = ""
        self._bar = Bar(0, "steps")
        self.stop_button = widgets.Button(description="stop", icon="stop", layout=widgets.Layout(width="90px"))
        self.stop_button.on_click(self.guard(self.stop))
        self.metric = widgets.Dropdown(options=[(metric_label(FIRST_METRIC).title, FIRST_METRIC)], description="metric")
        self.smoothing = widgets.FloatSlider(value=0, min=0, max=0.95, step=0.05, description="smoothing")
        self.controls.children = (row(self._bar.widget, self.stop_button), row(self.metric, self.smoothing))
        self.watch(self.metric, self.smoothing)
        self.refresh()

    @property
    def directory(self) -> RunDirectory:
        """The run's directory."""
        assert self.run is not None
        return self.run

    def load(self) -> None:
        status = run_status(self.directory)
        if self._failure or (status.state == "new" and self._child and not self._child.is_alive):
            raise self._not_started()
        self._events = read_history(self.directory, (StepDone, EvalDone, RunFinished)).events
        measured = {name for one in self._events if isinstance(one, EvalDone) for name in one.metrics}
        if measured:
            chosen = self.metric.value
            self.metric.options = [(metric_label(name).title, name) for name in in_order(measured)]
            self.metric.value = chosen if chosen in measured else self.metric.options[0][1]
        self._show_progress(status)

    def draw(self) -> "Figure":
        logged = [event for event in self._events if isinstance(event, StepDone | EvalDone)]
        found = curves(logged) if logged else None
        splits = list(found.metrics) if found else []
        split = "validation" if "validation" in splits or not splits else splits[0]
        shown = _smoothed(found, self.smoothing.value) if found else None
        return training_figure(shown, metric_label(self.metric.value), split, run_status(self.directory).num_steps)

    def stamp(self) -> Stamp:
        return (*stamp_of(self.directory), int(self._is_alive))

    @property
    def is_running(self) -> bool:
        state = run_status(self.directory).state
        return self._is_alive or (self._child is None and state in TAKES_COMMANDS)

    @property
    def selection(self) -> dict[str, Any]:
        """The state, the step, the weighted losses of the newest step, and the newest metrics by split."""
        self.check()
        status = run_status(self.directory)
        events = read_history(self.directory, (StepDone, EvalDone)).events
        steps = [event for event in events if isinstance(event, StepDone)]
        return {
            "run": self.directory.id,
            "state": status.state,
            "step": status.step,
            "steps": status.num_steps,
            "losses": dict(steps[-1].weighted) if steps else {},
            "metrics": {event.split: dict(event.metrics) for event in events if isinstance(event, EvalDone)},
        }

    def stop(self) -> None:
        """Ask the run to finish its step, save and exit. ``workbench runs resume ID`` continues it.

        Raises:
            ValueError: it has already ended.
        """
        if self._child and self._child.is_alive and not run_status(self.directory).num_steps:
            self._child.stop()  # still starting: does not read commands yet
        else:
            send_command(self.directory, "stop")
        self._bar.set_text("stopping after this step")

    @property
    def _is_alive(self) -> bool:
        return self._child is not None and self._child.is_alive

    def _not_started(self) -> ValueError:
        """The error of a child that failed before training. Also removes the run's directory, which has no data."""
        assert self._child is not None
        self._failure = self._failure or self._child.last_line
        shutil.rmtree(self.directory.path, ignore_errors=True)
        self._bar.end("not started", success=False)
        self.stop_button.layout.display = "none"
        return ValueError(f"the run did not start: {self._failure}")

    def _show_progress(self, status: RunStatus) -> None:
        elapsed_s = next((one.elapsed_s for one in reversed(self._events) if isinstance(one, StepDone)), 0.0)
        self._bar.show(status.step, status.num_steps, elapsed_s)
        self.stop_button.layout.display = "" if self.is_running else "none"
        if not self.is_running:
            reason = next((one.reason for one in reversed(self._events) if isinstance(one, RunFinished)), "")
            text = f"{status.state} at step {status.step:,} of {status.num_steps:,} after {duration(elapsed_s)}"
            self._bar.end(text + (f": {reason}" if reason else ""), success=status.state == "finished")
        elif not status.num_steps:
            self._bar.set_text("starting: loading models and data")


def _smoothed(found: Curves, amount: float) -> Curves:
    """The curves with smoothed losses."""

    def smoothed(series: Series) -> Series:
        return Series(series.step, smooth(series.value, amount))

    weighted = {name: smoothed(series) for name, series in found.weighted.items()}
    return Curves(found.run, smoothed(found.loss), weighted, found.metrics)
