"""``sweep`` and ``SweepExplorer``: a study that is trained beside the kernel, and its learning curves as they come."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from workbench.config.steering import Origin, read_origin
from workbench.config.study import Study
from workbench.events import EvalDone
from workbench.figures.study import learning_figure
from workbench.figures.training import training_figure
from workbench.formatting import duration
from workbench.notebook.explorer import Explorer, Stamp, row, stamp_of
from workbench.notebook.process import Bar, Child
from workbench.notebook.source import default_runs_dir
from workbench.runs.directory import RunDirectory, list_runs
from workbench.runs.lineage import read_history
from workbench.runs.liveness import RunStatus, run_status
from workbench.runs.summary import StudyRun, counted, find_trainable
from workbench.views.curves import LearningView, curves, learning_view
from workbench.views.metrics import metric_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPLIT = "validation"


def sweep(study: str, *, seeds: int | None = None, runs_dir: Path | None = None) -> "SweepExplorer":
    """Work through a study in a process of its own, and return what follows it. It ends with the kernel, if not before.

    What has been trained already is not trained again.

    Args:
        study: its name, or a file.
        seeds: replicates of every cell, if not as many as the study says.
        runs_dir: where its runs are kept; ``runs`` if not given.

    Raises:
        ValueError: there is no such study, it is a search, or its folder cannot be written.
    """
    folder = (default_runs_dir() if runs_dir is None else runs_dir).absolute()
    asked = find_trainable(study, folder)
    if asked.search:
        raise ValueError(f"study '{asked.name}' is a search, of hours: start it with workbench sweep --study {study}")
    asked = asked if seeds is None else asked.model_copy(update={"seeds": seeds})
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot keep runs in {folder}: {error.strerror}") from None
    command = ["sweep", "--study", study, "--seeds", str(asked.seeds), "--runs", str(folder)]
    return SweepExplorer(asked, Child(command, folder / f"{asked.name}.log"), folder)


class SweepExplorer(Explorer):
    """A study as it is trained: a curve a cell, how much is done, and a button that stops it.

    When all has ended, :class:`StudyExplorer` has the table.

    Attributes:
        selection: how many runs have ended, by how they did, and how many there are to be.
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
        self._tell()
        if not self.goes_on and self._child.exit_code not in (0, 143):  # 143: it was asked to stop
            raise ValueError(f"the sweep failed: {self._child.last_words} (more in {self._child.output})")

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
    def goes_on(self) -> bool:
        return self._child.is_alive

    @property
    def selection(self) -> dict[str, Any]:
        """How many runs of the study there are by state, and how many there are to be."""
        self.check()
        found = _runs(self._runs_dir, self.study.name, self._origins)
        states = [status.state if (status := _status(one.run)) else "unreadable" for one in found]
        return {"runs": self.study.num_runs, **{state: states.count(state) for state in dict.fromkeys(states)}}

    def stop(self) -> None:
        """Ask it to finish its step, save and end. :func:`sweep` goes on from there."""
        self._child.stop()
        self._bar.say("stopping after this step")

    @property
    def _metric(self) -> str:
        return self.study.objectives[0].metric

    def _learning(self) -> LearningView | None:
        """The cells' curves so far; None before the first evaluation."""
        drawn: dict[str, list[Any]] = {}
        for one in self._found:
            try:
                events = read_history(one.run, (EvalDone,)).events
            except ValueError:  # the run cannot be read; the others can
                continue
            if events and self._metric in (found := curves(events)).metrics.get(SPLIT, {}):
                drawn.setdefault(one.origin.cell, []).append(found)
        return learning_view(drawn, self._metric, SPLIT) if drawn else None

    def _tell(self) -> None:
        """How much is done, and how many runs have ended."""
        states = [status for one in self._found if (status := _status(one.run))]
        ended = sum(state.state == "finished" for state in states)
        elapsed_s = time.monotonic() - self._start
        self.stop_button.layout.display = "" if self.goes_on else "none"
        num_steps = max((state.num_steps for state in states), default=0)
        if self.goes_on and num_steps:
            self._bar.show(sum(state.step for state in states), num_steps * self.study.num_runs, elapsed_s)
        elif self.goes_on:
            self._bar.say("a few steps are measured first")
        else:
            words = f"{ended} of {self.study.num_runs} runs finished after {duration(elapsed_s)}"
            self._bar.end(words, good=ended == self.study.num_runs)


def _runs(runs_dir: Path, study: str, origins: dict[str, Origin | None]) -> list[StudyRun]:
    """The study's runs by cell, seed and attempt; what a run says of its study is read once, into ``origins``."""
    for run in list_runs(runs_dir):
        if run.id not in origins:
            origins[run.id] = _origin(run)
    named = [(run, origin) for run, origin in origins.items() if origin is not None and origin.study == study]
    found = [StudyRun(RunDirectory(runs_dir / run), origin) for run, origin in named]
    return sorted(found, key=lambda one: (one.origin.trial, one.origin.seed, one.origin.attempt))


def _status(run: RunDirectory) -> RunStatus | None:
    """How a run is; None for one that cannot be read."""
    try:
        return run_status(run)
    except (OSError, ValueError):
        return None


def _origin(run: RunDirectory) -> Origin | None:
    try:
        return read_origin(run.config_file)
    except ValueError:
        return None
