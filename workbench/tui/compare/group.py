"""A group of runs to compare: their curves, settings and metrics, and the pairing of repeats by seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.config.toml import read_toml
from workbench.figures.style import palette
from workbench.tui.charts.plot import Plot, curve
from workbench.tui.run.follow import Name, RunFollower
from workbench.views.comparison import ComparedRun, Comparison, Evaluated, compare_runs, setting_text
from workbench.views.metrics import in_order, metric_label
from workbench.views.results import PairedView, ResultRow, paired_view

if TYPE_CHECKING:
    from workbench.runs.directory import RunDirectory

IGNORED = ("recipe", "seed", "data.seed")  # settings that do not decide whether runs are repeats of one another
SPLIT = "validation"


@dataclass(frozen=True)
class Pairing:
    """Two sets of repeats, named by their differing settings, and the paired differences per metric."""

    baseline: str
    treated: str
    views: tuple[PairedView, ...]


class RunGroup:
    """Follows two or more runs and compares them."""

    def __init__(self, runs: Sequence["RunDirectory"]) -> None:
        self.followers = [RunFollower(run) for run in runs]

    def poll(self) -> bool:
        """Read all runs for a while; return whether there is more to read now."""
        # One budget for all: keys are handled between polls.
        has_more = [follower.poll(0.04 / len(self.followers)) for follower in self.followers]
        return any(has_more)

    @property
    def version(self) -> int:
        """Increases when any run has new events."""
        return sum(follower.num_polls for follower in self.followers)

    @property
    def names(self) -> list[Name]:
        """The curves that at least one run has: losses, then metrics, then the rest."""
        found = {name for follower in self.followers for name, trace in follower.history.traces.items() if len(trace)}
        losses = [name for name in _in_first_order(self.followers) if name[0] == "loss"]
        splits = sorted({group for group, _ in found if group.startswith("metrics/")}, reverse=True)  # validation first
        metrics = [(split, name) for split in splits for name in in_order({n for group, n in found if group == split})]
        rest = [name for name in _in_first_order(self.followers) if name[0] in ("speed", "scales", "masks")]
        return [name for name in [*losses, *metrics, *rest] if name in found]

    def plot(self, name: Name) -> Plot:
        """A plot of one curve of every run that has it."""
        group, what = name
        label = metric_label(what) if group.startswith("metrics/") else None
        ids = [follower.run.id for follower in self.followers]
        colors = palette(ids)
        curves = [
            curve(run, colors[run], follower.history.traces[name], label.factor if label else 1.0)
            for run, follower in zip(ids, self.followers, strict=True)
            if name in follower.history.traces
        ]
        title = f"{label.label} on {group.partition('/')[2]}" if label else _title(group, what)
        return Plot(title, tuple(curves), label.unit if label else "", may_log=group == "loss", may_smooth=not label)

    def compared(self) -> list[ComparedRun]:
        """The runs with their settings (empty if unreadable) and newest evaluations."""
        return [
            ComparedRun(follower.run.id, _settings(follower), _evaluations(follower)) for follower in self.followers
        ]

    def comparison(self) -> Comparison:
        """The comparison of all runs."""
        return compare_runs(self.compared())

    def pairings(self) -> list[Pairing]:
        """The first set of repeats against each other one, where they share seeds and metrics."""
        groups: dict[str, list[tuple[int, dict[str, float]]]] = {}
        comparison = self.comparison()
        deciding = [
            setting for setting in comparison.differing if setting.name not in IGNORED and _decides(setting.name)
        ]
        for place, run in enumerate(self.compared()):
            name = ", ".join(f"{setting.name}={setting_text(setting.values[place])}" for setting in deciding)
            evaluated = run.evaluations.get(SPLIT)
            if isinstance(seed := run.settings.get("seed"), int) and evaluated:
                groups.setdefault(name, []).append((seed, dict(evaluated.metrics)))
        first, *others = groups or [""]
        return [pairing for other in others if (pairing := _pairing(first, other, groups)).views]


def _pairing(first: str, other: str, groups: dict[str, list[tuple[int, dict[str, float]]]]) -> Pairing:
    from workbench.statistics.intervals import seed_gain

    by_seed = [dict(groups[name]) for name in (first, other)]
    seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
    rows = [
        ResultRow(name, seed, metrics[seed])
        for name, metrics in zip((first, other), by_seed, strict=True)
        for seed in seeds
    ]
    views = []
    for metric in in_order({name for row in rows for name in row.metrics}):
        try:
            values = [[of[seed][metric] for seed in seeds] for of in by_seed]
            views.append(paired_view(rows, metric, first, other, seed_gain(*values)))
        except (KeyError, ValueError):  # a run lacks the metric, or a value is not finite
            continue
    return Pairing(first, other, tuple(views))


def _decides(setting: str) -> bool:
    """Whether runs that differ in this setting are not repeats; machine, log and sweep labels do not count."""
    return not setting.startswith(("machine.", "sweep.", "log."))


def _settings(follower: RunFollower) -> dict[str, Any]:
    try:
        table = read_toml(follower.run.config_file)
    except ValueError:
        return {}
    table.pop("sweep", None)
    return table


def _evaluations(follower: RunFollower) -> dict[str, Evaluated]:
    return {
        split: Evaluated(event.step, event.num_pairs, event.metrics, event.errors)
        for split, event in follower.history.evaluations.items()
    }


def _in_first_order(followers: list[RunFollower]) -> list[Name]:
    return list(dict.fromkeys(name for follower in followers for name in follower.history.traces))


def _title(group: str, what: str) -> str:
    if group == "loss":
        return "loss" if what == "total" else f"{what}, weighted"
    return what.replace("_", " ") if group == "speed" else f"{group}: {what}"
