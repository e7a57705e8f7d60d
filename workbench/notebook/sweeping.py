"""``sweep`` and ``SweepExplorer``: run a study in a child process and follow its learning curves."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from workbench.config.study import Origin, Study, read_origin
from workbench.events import EvalDone
from workbench.figures.study import learning_figure
from workbench.figures.training import training_figure
from workbench.formatting import duration
from workbench.notebook.explorer import Explorer, Stamp, row, stamp_of
from workbench.notebook.process import Bar, Child
from workbench.notebook.source import default_runs_dir
from workbench.runs.directory import RunDirectory, list_runs
from workbench.runs.liveness import RunStatus, run_status
from workbench.runs.log import read_history
from workbench.runs.studies import StudyRun, counted, find_trainable
from workbench.views.curves import LearningView, curves, learning_view
from workbench.views.metrics import metric_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPLIT = "validation"


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


class SweepExplorer(Explorer):
    """A study in training: a learning curve for each cell, the progress, and a stop button.

    :class:`StudyExplorer` shows the results.

    Attributes:
        selection: the number of runs in total and by state.
    """

    def __init__(self, study: Study, child: Child, runs_dir: Path) -> None:
        super().__init__()
        self.study, self._child, self._runs_dir = study, child, runs_dir
        self._origins: dict[str, Origin | None] = {}
        self._found: list[StudyRun] = []
        self._start = time.monotonic()
        self._bar = Bar(0, "steps of all runs")
        self.stop_button = widgets.Button(description="stop", icon="stop", layout=widgets.Layout(width="90px"))
        self.stop_button.on_click(self.guard(self.stop))
        self.controls.children = (row(self._bar.widget, self.stop_button),)
        self.refresh()

    def load(self) -> None:
        self._found = counted(_runs(self._runs_dir, self.study.name, self._origins))
        self._show_progress()
        if not self.is_running and self._child.exit_code not in (0, 143):  # 143: stopped by SIGTERM
            raise ValueError(f"the sweep failed: {self._child.last_line} (more in {self._child.output})")

    def draw(self) -> "Figure":
        view = self._learning()
        if view is None:
            return training_figure(None, metric_label(self._metric), SPLIT, 0)
        return learning_figure(view)

    def stamp(self) -> Stamp:
        return (
            len(self._found),
            int(self._child.is_alive),
            *(part for one in self._found for part in stamp_of(one.run)),
        )

    @property
    def is_running(self) -> bool:
        return self._child.is_alive

    @property
    def selection(self) -> dict[str, Any]:
        """The number of runs in total and by state."""
        self.check()
        found = _runs(self._runs_dir, self.study.name, self._origins)
        states = [status.state if (status := _status(one.run)) else "unreadable" for one in found]
        return {"runs": self.study.num_runs, **{state: states.count(state) for state in dict.fromkeys(states)}}

    def stop(self) -> None:
        """Ask the sweep to finish its step, save and exit. :func:`sweep` continues it."""
        self._child.stop()
        self._bar.set_text("stopping after this step")

    @property
    def _metric(self) -> str:
        return self.study.objectives[0].metric

    def _learning(self) -> LearningView | None:
        """The learning curves of the cells; None before the first evaluation."""
        by_cell: dict[str, list[Any]] = {}
        for one in self._found:
            try:
                events = read_history(one.run, (EvalDone,)).events
            except ValueError:  # an unreadable run must not hide the others
                continue
            if events and self._metric in (found := curves(events)).metrics.get(SPLIT, {}):
                by_cell.setdefault(one.origin.cell, []).append(found)
        return learning_view(by_cell, self._metric, SPLIT) if by_cell else None

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


def _runs(runs_dir: Path, study: str, origins: dict[str, Origin | None]) -> list[StudyRun]:
    """The study's runs by cell, seed and attempt. ``origins`` caches each run's origin between calls."""
    for run in list_runs(runs_dir):
        if run.id not in origins:
            origins[run.id] = _origin(run)
    named = [(run, origin) for run, origin in origins.items() if origin is not None and origin.study == study]
    found = [StudyRun(RunDirectory(runs_dir / run), origin) for run, origin in named]
    return sorted(found, key=lambda one: (one.origin.trial, one.origin.seed, one.origin.attempt))


def _status(run: RunDirectory) -> RunStatus | None:
    """A run's status; None if it cannot be read."""
    try:
        return run_status(run)
    except (OSError, ValueError):
        return None


def _origin(run: RunDirectory) -> Origin | None:
    try:
        return read_origin(run.config_file)
    except ValueError:
        return None
