"""Several runs side by side: the curves that they share, their settings, and their metrics with differences."""

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

OF_A_SEED = ("seed", "data.seed")
NAMED_FOR = ("recipe", *OF_A_SEED)
SPLIT = "validation"


@dataclass(frozen=True)
class Pairing:
    """Two groups of runs that are alike but for their seeds, and the metrics in which they can be paired by seed."""

    baseline: str
    treated: str
    views: tuple[PairedView, ...]


class Compared:
    """Feeds of two or more runs, and what they have in common."""

    def __init__(self, runs: Sequence["RunDirectory"]) -> None:
        self.feeds = [RunFollower(run) for run in runs]

    def poll(self) -> bool:
        """Reads on in all; whether there is more to read at once."""
        has_more = [feed.poll(0.04 / len(self.feeds)) for feed in self.feeds]
        return any(has_more)

    @property
    def version(self) -> int:
        """Grows with everything new."""
        return sum(feed.num_polls for feed in self.feeds)

    @property
    def names(self) -> list[Name]:
        """What at least one run has curves of: losses, metrics, then the rest."""
        found = {name for feed in self.feeds for name, trace in feed.story.traces.items() if len(trace)}
        losses = [name for name in _in_first_order(self.feeds) if name[0] == "loss"]
        splits = sorted({group for group, _ in found if group.startswith("metrics/")}, reverse=True)  # validation first
        metrics = [(split, name) for split in splits for name in in_order({n for group, n in found if group == split})]
        rest = [name for name in _in_first_order(self.feeds) if name[0] in ("speed", "scales", "masks")]
        return [name for name in [*losses, *metrics, *rest] if name in found]

    def plot(self, name: Name) -> Plot:
        """One curve of every run that has it."""
        group, what = name
        label = metric_label(what) if group.startswith("metrics/") else None
        ids = [feed.run.id for feed in self.feeds]
        colors = palette(ids)
        curves = [
            curve(run, colors[run], feed.story.traces[name], label.factor if label else 1.0)
            for run, feed in zip(ids, self.feeds, strict=True)
            if name in feed.story.traces
        ]
        title = f"{label.label} on {group.partition('/')[2]}" if label else _title(group, what)
        return Plot(title, tuple(curves), label.unit if label else "", may_log=group == "loss", may_smooth=not label)

    def compared(self) -> list[ComparedRun]:
        """The runs with their settings and newest evaluations; without settings where they cannot be read."""
        return [ComparedRun(feed.run.id, _settings(feed), _evaluations(feed)) for feed in self.feeds]

    def comparison(self) -> Comparison:
        """All side by side."""
        return compare_runs(self.compared())

    def pairings(self) -> list[Pairing]:
        """The first group of runs against each other one, as far as they have seeds and metrics in common."""
        groups: dict[str, list[tuple[int, dict[str, float]]]] = {}
        comparison = self.comparison()
        apart = [
            setting for setting in comparison.differing if setting.name not in NAMED_FOR and _decides(setting.name)
        ]
        for place, run in enumerate(self.compared()):
            name = ", ".join(f"{setting.name}={setting_text(setting.values[place])}" for setting in apart)
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
        except (KeyError, ValueError):  # not all have it, or one is not finite: then it cannot be paired
            continue
    return Pairing(first, other, tuple(views))


def _decides(setting: str) -> bool:
    """Whether a setting tells runs apart that are not repeats: the machine, the log and a study's labels do not."""
    return not setting.startswith(("machine.", "sweep.", "log."))


def _settings(feed: RunFollower) -> dict[str, Any]:
    try:
        table = read_toml(feed.run.config_file)
    except ValueError:
        return {}
    table.pop("sweep", None)
    return table


def _evaluations(feed: RunFollower) -> dict[str, Evaluated]:
    return {
        split: Evaluated(event.step, event.num_pairs, event.metrics, event.errors)
        for split, event in feed.story.evaluations.items()
    }


def _in_first_order(feeds: list[RunFollower]) -> list[Name]:
    return list(dict.fromkeys(name for feed in feeds for name in feed.story.traces))


def _title(group: str, what: str) -> str:
    if group == "loss":
        return "loss" if what == "total" else f"{what}, weighted"
    return what.replace("_", " ") if group == "speed" else f"{group}: {what}"
