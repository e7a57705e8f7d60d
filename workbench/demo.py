"""``workbench demo``: distilled students against a baseline without a teacher, at several seeds."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workbench.config.run import RunConfig
from workbench.config.toml import load_recipe
from workbench.data.spec import Role
from workbench.engine.cohort import Cohort
from workbench.engine.evaluate import Measured
from workbench.engine.launch import launch
from workbench.events import Event
from workbench.figures.demo import demo_figure, gains_figure
from workbench.figures.style import save_figure
from workbench.models.clip import count_parameters
from workbench.runs.directory import RunDirectory, new_run_id
from workbench.runs.log import read_events
from workbench.statistics.intervals import Gain, paired_gain, seed_gain
from workbench.views.curves import Curves, curves, learning_view
from workbench.views.results import ResultRow, paired_view

BASELINE = "baseline"
SPLIT: Role = "test"
DRAWN = "image_to_text_r1"
GAINED = ("image_to_text_r1", "text_to_image_r1")


@dataclass
class Demo:
    """One demo: iterate :meth:`events` to train, then read the results.

    Args:
        seeds: one replicate each, with its own initial weights, order and crops.
        num_steps: steps of every student.
        settings: of every student, as for ``--set``.
        recipes: compared with the baseline, on the same batches and with the same teacher outputs.
    """

    runs_dir: Path
    seeds: tuple[int, ...]
    num_steps: int
    settings: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ("clip-kd",)
    rows: list[ResultRow] = field(default_factory=list)
    num_test_pairs: int = 0
    chance: dict[str, float] = field(default_factory=dict)
    """Chance level of each metric on the test pairs."""
    elapsed_s: float = 0.0
    _hits: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _curves: dict[str, list[Curves]] = field(default_factory=dict)
    _teacher: dict[str, float] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Steps of each student."""
        return self.config.train.num_steps

    @property
    def config(self) -> RunConfig:
        """The baseline's config at the first seed; all runs share its data and number of steps."""
        return self._config(BASELINE, self.seeds[0])

    def events(self, interrupted: Callable[[], bool]) -> Iterator[Event]:
        """Train the students of each seed as one cohort; ends early when interrupted."""
        start = time.perf_counter()
        before: Cohort | None = None
        for seed in self.seeds:
            configs = {model: self._config(model, seed) for model in (BASELINE, *self.recipes)}
            ids = {model: new_run_id(f"demo-{model}", seed, self.runs_dir) for model in configs}
            # like: the next seed's cohort reuses the teacher.
            started = launch({ids[model]: config for model, config in configs.items()}, self.runs_dir, like=before)
            before = started.cohort
            yield from started.events(interrupted)
            if interrupted():
                return
            for model, run in ids.items():
                self._collect(started.cohort, model, seed, started.directories[run])
            self.elapsed_s = time.perf_counter() - start

    def gains(self, recipe: str) -> dict[str, Gain]:
        """A recipe's gain over the baseline in each metric, paired by seed; intervals of R@1 also cover test pairs."""
        models = (BASELINE, recipe)
        by_model = {model: [row.metrics for row in self.rows if row.model == model] for model in models}
        gains = {}
        for metric in by_model[BASELINE][0]:
            # Hits of every pair allow an interval over seeds and pairs; other metrics have one number per seed.
            if metric in self._hits[BASELINE][0]:
                both = [np.stack([hits[metric] for hits in self._hits[model]]) for model in models]
                gains[metric] = paired_gain(both[0], both[1])
            elif all(metric in row for rows in by_model.values() for row in rows):
                both_S = [[row[metric] for row in by_model[model]] for model in models]
                gains[metric] = seed_gain(both_S[0], both_S[1])
        return gains

    def save_figure(self) -> Path:
        """Write demo.png into the runs folder: curves and gain of one recipe, or the gains of several."""
        views = {}
        for recipe in self.recipes:
            gains = self.gains(recipe)
            views[recipe] = [paired_view(self.rows, metric, BASELINE, recipe, gains[metric]) for metric in GAINED]
        if len(views) > 1:
            figure = gains_figure(views)
        else:
            learning = learning_view(self._curves, DRAWN, "validation", teacher=self._teacher.get(DRAWN))
            figure = demo_figure(learning, views[self.recipes[0]])
        return save_figure(figure, self.runs_dir / "demo.png")

    def to_json(self) -> dict[str, Any]:
        """The results; ``gain`` is that of the first recipe, ``gains`` of all."""
        gains = {
            recipe: {metric: gain.to_json() for metric, gain in self.gains(recipe).items()} for recipe in self.recipes
        }
        return {
            "rows": [row.to_json() for row in self.rows],
            "gain": gains[self.recipes[0]],
            "gains": gains,
            "chance": self.chance,
            "elapsed_s": self.elapsed_s,
        }

    def _config(self, model: str, seed: int) -> RunConfig:
        return load_recipe(model, [*self.settings], seed=seed, steps=self.num_steps)

    def _collect(self, cohort: Cohort, model: str, seed: int, run: RunDirectory) -> None:
        member = next(member for member in cohort.members if member.run == run.id)
        if not self.rows:
            assert cohort.teacher is not None
            self._teacher = cohort.evaluators["validation"].measure_teacher().metrics
            self._add_row("teacher", None, cohort.evaluators[SPLIT].measure_teacher(), cohort.teacher.num_parameters)
        measured = cohort.measured.get((run.id, SPLIT))
        if measured is None:
            raise RuntimeError(f"run {run.id} did not finish: see `workbench runs show {run.path}`")
        self._add_row(model, seed, measured, count_parameters(member.state.student))
        self.num_test_pairs = measured.num_pairs
        self.chance = measured.chance
        self._hits.setdefault(model, []).append({name: hit.numpy() for name, hit in measured.hits.items()})
        self._curves.setdefault(model, []).append(curves(read_events(run.events_file).events))

    def _add_row(self, model: str, seed: int | None, measured: Measured, num_params: dict[str, int]) -> None:
        self.rows.append(ResultRow(model, seed, measured.metrics, measured.errors, num_params))
