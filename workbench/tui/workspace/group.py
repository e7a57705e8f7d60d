"""Several runs followed at once: their curves by metric, single or as means over groups, and their comparison."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from workbench.config.toml import read_toml
from workbench.figures.style import palette
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import TAKES_COMMANDS
from workbench.statistics.intervals import seed_gain
from workbench.tui.charts.plot import Curve, Plot, curve, letter_of
from workbench.tui.charts.raster import Floats
from workbench.tui.follow import Name, RunFollower
from workbench.tui.preferences import Axis
from workbench.views.comparison import ComparedRun, Comparison, Evaluated, compare_runs, setting_text
from workbench.views.metrics import in_order, metric_label
from workbench.views.results import PairedView, ResultRow, paired_view

IGNORED = ("recipe", "seed", "data.seed")  # settings that do not decide whether runs are repeats of one another
LABELS = ("machine.", "sweep.", "log.")  # nor do settings that begin so
SPLIT = "validation"
POLL_ENDED_S = 10.0  # a run that has ended may be resumed: it is looked at now and then
MOST_POINTS = 400  # of a mean over runs
HUES = 12  # colors after those of the figures
GROUPS = ("speed", "scales", "masks")  # of curves, after losses and metrics


def color_of(place: int) -> str:
    """The color of run ``place``, from the oldest on: those of the figures, then others far apart in hue."""
    from textual.color import Color

    first = list(dict.fromkeys(palette([str(number) for number in range(6)]).values()))
    if place < len(first):
        return first[place]
    # Steps of the golden angle never come close to a hue that was used a few steps before.
    return Color.from_hsl((0.05 + 0.381966 * place) % 1.0, 0.62, 0.42 + 0.12 * (place % 3 - 1)).hex


class RunGroup:
    """Follows the runs that are shown. A run keeps what was read of it, its letter and its color while it is hidden."""

    def __init__(self, runs: Sequence[RunDirectory], places: Mapping[str, int] | None = None) -> None:
        """``places``: a number for each run, which decides its letter and color; by default their order."""
        self.places = dict(places or {run.id: place for place, run in enumerate(runs)})
        self._every: dict[str, RunFollower] = {}
        self._next_poll_s: dict[str, float] = {}
        self._curves: dict[tuple[str, Name], tuple[int, Curve]] = {}
        self.show(runs)

    def show(self, runs: Sequence[RunDirectory]) -> None:
        """Follow exactly these runs, in this order."""
        for run in runs:
            self.places.setdefault(run.id, len(self.places))
            if run.id not in self._every:
                self._every[run.id] = RunFollower(run)
        self.followers = [self._every[run.id] for run in runs]

    def poll(self) -> bool:
        """Read all runs for a while; return whether there is more to read now."""
        now_s = time.monotonic()
        due = [one for one in self.followers if self._next_poll_s.get(one.run.id, 0.0) <= now_s]
        has_more = False
        for follower in due:
            # One budget for all: keys are handled between polls.
            more = follower.poll(0.04 / len(due))
            has_more = has_more or more
            is_live = follower.status is None or follower.status.state in TAKES_COMMANDS
            if not more and not is_live:
                self._next_poll_s[follower.run.id] = now_s + POLL_ENDED_S
        return has_more

    @property
    def version(self) -> tuple[tuple[str, int], ...]:
        """Changes when other runs are shown, or any of them has new events."""
        return tuple((follower.run.id, follower.num_polls) for follower in self.followers)

    @property
    def names(self) -> list[Name]:
        """The curves that at least one run has: the loss, metrics, the losses' terms, then the rest."""
        traces = [item for follower in self.followers for item in follower.history.traces.items()]
        found = list(dict.fromkeys(name for name, trace in traces if len(trace)))
        splits = sorted({group for group, _ in found if group.startswith("metrics/")}, reverse=True)  # validation first
        metrics = [(split, name) for split in splits for name in in_order({n for group, n in found if group == split})]
        losses = [name for name in found if name[0] == "loss"]
        return [*losses[:1], *metrics, *losses[1:], *(name for name in found if name[0] in GROUPS)]

    def plot(self, name: Name, axis: Axis = "step", groups: Mapping[str, str] | None = None) -> Plot:
        """A plot of one curve of every run that has it.

        Args:
            groups: the group of every shown run by its id; each group's mean is shown, with a band over its runs.
        """
        group, what = name
        label = metric_label(what) if group.startswith("metrics/") else None
        curves = [self._curve(one, name, label.factor if label else 1.0) for one in self.followers]
        shown = [one for one in curves if one is not None]
        if groups is not None:
            shown = means(shown, axis, groups)
        unit = label.unit if label else ""
        may_smooth = not label
        is_brief = groups is None  # runs are named in the list
        return Plot(
            title_of(name), tuple(shown), unit, may_log=group == "loss", may_smooth=may_smooth, is_brief=is_brief
        )

    def _curve(self, one: RunFollower, name: Name, factor: float) -> Curve | None:
        """The curve of a run, made again only if the run has new events; None if it has none."""
        trace = one.history.traces.get(name)
        if trace is None or not len(trace):
            return None
        known = self._curves.get((one.run.id, name))
        if known is not None and known[0] == one.num_polls:
            return known[1]
        place = self.places[one.run.id]
        found = curve(one.run.id, color_of(place), trace, factor, letter_of(place))
        clock = one.history.traces.get(("clock", "time_s"))
        if clock is not None and len(clock):
            clock_s: Floats = np.interp(found.step, clock.series.step, np.maximum.accumulate(clock.series.value))
            found = replace(found, clock_s=clock_s, batch_size=one.history.batch_size)
        self._curves[one.run.id, name] = one.num_polls, found
        return found

    def compared(self) -> list[ComparedRun]:
        """The runs with their settings (empty if unreadable) and newest evaluations."""
        found = []
        for follower in self.followers:
            evaluations = {
                split: Evaluated(event.step, event.num_pairs, event.metrics, event.errors)
                for split, event in follower.history.evaluations.items()
            }
            found.append(ComparedRun(follower.run.id, _settings(follower.run), evaluations))
        return found

    def comparison(self) -> Comparison:
        """The comparison of all runs."""
        return compare_runs(self.compared())

    @property
    def letters(self) -> list[str]:
        """The runs' letters."""
        return [letter_of(self.places[follower.run.id]) for follower in self.followers]

    def pairings(self) -> list[list[PairedView]]:
        """The first set of repeats against each other one, metric by metric, where they share seeds.

        A set is named by its settings that differ.
        """
        groups: dict[str, dict[int, dict[str, float]]] = {}
        deciding = [setting for setting in self.comparison().differing if decides(setting.name)]
        for place, run in enumerate(self.compared()):
            name = ", ".join(f"{setting.name}={setting_text(setting.values[place])}" for setting in deciding)
            evaluated = run.evaluations.get(SPLIT)
            if isinstance(seed := run.settings.get("seed"), int) and evaluated:
                groups.setdefault(name, {})[seed] = dict(evaluated.metrics)
        first, *others = groups or [""]
        return [views for other in others if (views := _paired(first, other, groups))]


def decides(setting: str) -> bool:
    """Whether runs that differ in a setting are not repeats of one another."""
    return setting not in IGNORED and not setting.startswith(LABELS)


def title_of(name: Name) -> str:
    """The title of a curve's plot."""
    group, what = name
    if group.startswith("metrics/"):
        return f"{metric_label(what).label} on {group.partition('/')[2]}"
    if group == "loss":
        return "loss" if what == "total" else f"{what}, weighted"
    return what.replace("_", " ") if group == "speed" else f"{group}: {what}"


def places_of(groups: Mapping[str, str]) -> dict[str, int]:
    """A number for each group, in order of its first run, which decides its letter and color in every chart."""
    return {label: place for place, label in enumerate(dict.fromkeys(groups.values()))}


def means(curves: Sequence[Curve], axis: Axis, groups: Mapping[str, str]) -> list[Curve]:
    """The mean of every group's curves along ``axis``, with a band from the least to the greatest run.

    A mean covers the part of the axis that all its curves have, at their points; at most ``MOST_POINTS``.
    """
    found, places = [], places_of(groups)
    for label, place in places.items():
        members = [one for one in curves if groups[one.name] == label]
        if not members:
            continue
        xs = [one.along(axis) for one in members]
        low, high = max(float(x[0]) for x in xs), min(float(x[-1]) for x in xs)
        at_N = np.unique(np.concatenate([x[(x >= low) & (x <= high)] for x in xs]))
        if not len(at_N):
            continue  # runs that share no part of the axis, as runs of different days on the clock
        if len(at_N) > MOST_POINTS:
            at_N = np.linspace(low, high, MOST_POINTS)
        values = np.stack([np.interp(at_N, x, one.value) for x, one in zip(xs, members, strict=True)])
        band = np.stack([values.min(0), values.max(0)]) if len(members) > 1 else None
        name = f"{label} ({len(members)})" if len(members) > 1 else label
        mean = Curve(name, color_of(place), at_N, at_N, values.mean(0), letter_of(place), 1, at_N, band)
        found.append(mean)
    return found


def _paired(first: str, other: str, groups: dict[str, dict[int, dict[str, float]]]) -> list[PairedView]:
    seeds = sorted(groups[first].keys() & groups[other].keys())
    rows = [ResultRow(name, seed, groups[name][seed]) for name in (first, other) for seed in seeds]
    views = []
    for metric in in_order({name for row in rows for name in row.metrics}):
        try:
            values = [[groups[name][seed][metric] for seed in seeds] for name in (first, other)]
            views.append(paired_view(rows, metric, first, other, seed_gain(*values)))
        except (KeyError, ValueError):  # a run lacks the metric, or a value is not finite
            continue
    return views


def _settings(run: RunDirectory) -> dict[str, Any]:
    try:
        table = read_toml(run.config_file)
    except ValueError:
        return {}
    table.pop("sweep", None)
    return table
