"""Training next to the kernel: start a run or a study in a child process and follow it in a chart."""

import shutil
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from workbench.config.study import Study
from workbench.config.toml import load_recipe
from workbench.events import EvalDone, Event, RunFinished, StepDone
from workbench.figures.training import learning_figure, training_figure
from workbench.formatting import duration
from workbench.notebook.controls import Bar, row
from workbench.notebook.explorer import Explorer, Stamp, default_runs_dir, open_run, stamp_of
from workbench.notebook.process import Child
from workbench.runs.directory import RunDirectory, new_run_id
from workbench.runs.liveness import TAKES_COMMANDS, RunStatus, run_status, send_command
from workbench.runs.log import read_history
from workbench.runs.studies import StudyRun, counted, find_trainable, runs_of_study
from workbench.views.curves import Curves, Series, curves, learning_view, smooth
from workbench.views.metrics import in_order, metric_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST_METRIC = "image_to_text_r1"
SPLIT = "validation"


class ProcessExplorer(Explorer):
    """A chart of training in a process, with its progress and a stop button."""

    def __init__(self, run: RunDirectory | None, child: Child | None, label: str) -> None:
        super().__init__(run)
        self._child = child
        self._bar = Bar(0, label)
        self.stop_button = widgets.Button(description="stop", icon="stop", layout=widgets.Layout(width="90px"))
        self.stop_button.on_click(self.guard(self.stop))
        self.controls.children = (row(self._bar.widget, self.stop_button),)

    def stop(self) -> None:
        """Ask the process to finish its step, save and exit.

        Raises:
            ValueError: it has already ended.
        """
        self._stop()
        self._bar.set_text("stopping after this step")

    @abstractmethod
    def _stop(self) -> None: ...

    @property
    def _is_alive(self) -> bool:
        return self._child is not None and self._child.is_alive


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
    width = 1 if config.teacher.model else None
    Objective(config.loss, config.train.batch_size, width)  # a wrong loss raises here, not in the child
    folder = default_runs_dir() if runs_dir is None else runs_dir
    run = create(name or new_run_id(recipe, config.seed, folder), config, folder)
    return TrainingExplorer(run, Child(["runs", "resume", str(run.path)], run.output_file))


class TrainingExplorer(ProcessExplorer):
    """A run in training: its losses, a metric, the remaining time, and a stop button.

    ``workbench runs resume ID`` continues a stopped run.

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
        super().__init__(open_run(source, runs_dir), child, "steps")
        self._events: list[Event] = []
        self._failure = ""
        self.metric = widgets.Dropdown(options=[(metric_label(FIRST_METRIC).title, FIRST_METRIC)], description="metric")
        self.smoothing = widgets.FloatSlider(value=0, min=0, max=0.95, step=0.05, description="smoothing")
        self.controls.children = (*self.controls.children, row(self.metric, self.smoothing))
        self.watch(self.metric, self.smoothing)
        self.refresh()

    @property
    def directory(self) -> RunDirectory:
        """The run's directory."""
        assert self.run is not None
        return self.run

    def load(self) -> None:
        status = run_status(self.directory)
        if self._failure or (status.state == "new" and self._child and not self._is_alive):
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
        if found:
            weighted = {name: self._smoothed(series) for name, series in found.weighted.items()}
            found = replace(found, loss=self._smoothed(found.loss), weighted=weighted)
        return training_figure(found, metric_label(self.metric.value), split, run_status(self.directory).num_steps)

    def _smoothed(self, series: Series) -> Series:
        return Series(series.step, smooth(series.value, self.smoothing.value))

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

    def _stop(self) -> None:
        if self._child and self._is_alive and not run_status(self.directory).num_steps:
            self._child.stop()  # still starting: does not read commands yet
        else:
            send_command(self.directory, "stop")

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


def sweep(study: str, *, seeds: int | None = None, runs_dir: Path | None = None) -> "SweepExplorer":
    """Run a study in a child process, which stops when the kernel ends, and follow it. Finished runs are kept.

    Args:
        study: a study's name or file.
        seeds: seeds for each cell; the study's number if not given.
        runs_dir: the runs folder; ``runs`` if not given.

    Raises:
        ValueError: there is no such study, it is a search, or the runs folder cannot be written.
    """
    folder = (default_runs_dir() if runs_dir is None else runs_dir).absolute()
    config = find_trainable(study, folder)
    if config.search:
        raise ValueError(f"study '{config.name}' is a search and takes hours: run workbench sweep --study {study}")
    config = config if seeds is None else config.model_copy(update={"seeds": seeds})
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot create runs folder {folder}: {error.strerror}") from None
    command = ["sweep", "--study", study, "--seeds", str(config.seeds), "--runs", str(folder)]
    return SweepExplorer(config, Child(command, folder / f"{config.name}.log"), folder)


class SweepExplorer(ProcessExplorer):
    """A study in training: a learning curve for each cell, the progress, and a stop button.

    :class:`StudyExplorer` shows the results; :func:`sweep` continues a stopped study.

    Attributes:
        selection: the number of runs in total and by state.
    """

    def __init__(self, study: Study, child: Child, runs_dir: Path) -> None:
        super().__init__(None, child, "steps of all runs")
        self.study, self._process, self._runs_dir = study, child, runs_dir
        self._found: list[StudyRun] = []
        self._start = time.monotonic()
        self.refresh()

    def load(self) -> None:
        self._found = counted(runs_of_study(self._runs_dir, self.study.name))
        self._show_progress()
        if not self._is_alive and self._process.exit_code not in (0, 143):  # 143: stopped by SIGTERM
            raise ValueError(f"the sweep failed: {self._process.last_line} (more in {self._process.output})")

    def draw(self) -> "Figure":
        metric = self.study.objectives[0].metric
        by_cell: dict[str, list[Curves]] = {}
        for one in self._found:
            try:
                events = read_history(one.run, (EvalDone,)).events
            except ValueError:  # an unreadable run must not hide the others
                continue
            if events and metric in (found := curves(events)).metrics.get(SPLIT, {}):
                by_cell.setdefault(one.origin.cell, []).append(found)
        if not by_cell:  # before the first evaluation
            return training_figure(None, metric_label(metric), SPLIT, 0)
        return learning_figure(learning_view(by_cell, metric, SPLIT))

    def stamp(self) -> Stamp:
        logs = [part for one in self._found for part in stamp_of(one.run)]
        return (len(self._found), int(self._is_alive), *logs)

    @property
    def is_running(self) -> bool:
        return self._is_alive

    @property
    def selection(self) -> dict[str, Any]:
        """The number of runs in total and by state."""
        self.check()
        found = runs_of_study(self._runs_dir, self.study.name)
        states = [status.state if (status := _status(one.run)) else "unreadable" for one in found]
        return {"runs": self.study.num_runs, **{state: states.count(state) for state in dict.fromkeys(states)}}

    def _stop(self) -> None:
        self._process.stop()

    def _show_progress(self) -> None:
        states = [status for one in self._found if (status := _status(one.run))]
        ended = sum(state.state == "finished" for state in states)
        elapsed_s = time.monotonic() - self._start
        self.stop_button.layout.display = "" if self.is_running else "none"
        num_steps = max((state.num_steps for state in states), default=0)
        if self.is_running and num_steps:
            self._bar.show(sum(state.step for state in states), num_steps * self.study.num_runs, elapsed_s)
        elif self.is_running:
            self._bar.set_text("measuring the speed of a few steps")
        else:
            text = f"{ended} of {self.study.num_runs} runs finished after {duration(elapsed_s)}"
            self._bar.end(text, success=ended == self.study.num_runs)


def _status(run: RunDirectory) -> RunStatus | None:
    """A run's status; None if it cannot be read."""
    try:
        return run_status(run)
    except (OSError, ValueError):
        return None
