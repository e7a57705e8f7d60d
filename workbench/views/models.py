"""Several models on the same pairs as a table, with differences to the first, and which is nearer to the teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.views.metrics import MetricLabel, in_order, metric_label

if TYPE_CHECKING:
    from workbench.statistics.intervals import Gain

TO_TEACHER = ("similarity_single", "similarity_cross", "cka", "affinity_kl")


@dataclass(frozen=True)
class ModelColumn:
    """One model: its metrics, and their differences to the first model with intervals over the pairs."""

    name: str
    metrics: Mapping[str, float]
    gains: "Mapping[str, Gain]"


@dataclass(frozen=True)
class ModelRow:
    """One metric of all models; None for a model that lacks it."""

    metric: MetricLabel
    values: tuple[float | None, ...]
    gains: "tuple[Gain | None, ...]"
    teacher: float | None = None

    def cells(self) -> list[str]:
        """Title, the teacher's value, the first model's, and for each other its value, difference and interval."""
        number = self.metric.number
        teacher = "" if self.teacher is None else number(self.teacher)
        cells = [self.metric.title, teacher, number(self.values[0])]
        for value, gain in zip(self.values[1:], self.gains[1:], strict=True):
            first = self.values[0]
            difference = None if first is None or value is None else value - first
            interval = self.metric.interval(gain.low, gain.high, signed=True) if gain else ""
            cells += [number(value), number(difference, signed=True), interval]
        return cells


def model_rows(columns: Sequence[ModelColumn], teacher: Mapping[str, float]) -> list[ModelRow]:
    """The rows of the table, in the order of ``METRIC_LABELS``."""
    names = in_order({name for column in columns for name in column.metrics})
    return [
        ModelRow(
            metric_label(name),
            tuple(column.metrics.get(name) for column in columns),
            tuple(column.gains.get(name) for column in columns),
            teacher.get(name),
        )
        for name in names
    ]


@dataclass(frozen=True)
class Nearer:
    """Which of two models is nearer to the teacher, by each measure of agreement that both have.

    ``first`` and ``other`` hold measures by which one is clearly nearer, ``unclear`` those whose interval includes 0 or
    that have none.
    """

    first: tuple[str, ...]
    other: tuple[str, ...]
    unclear: tuple[str, ...]

    def sentence(self, first: str, other: str) -> str:
        """The answer in one line."""
        parts = [
            f"{who} is nearer to the teacher by {', '.join(metric_label(name).label for name in names)}"
            for who, names in ((first, self.first), (other, self.other))
            if names
        ]
        if self.unclear:
            parts.append(f"not clear by {', '.join(metric_label(name).label for name in self.unclear)}")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The measures in ``--json``."""
        return {"first": list(self.first), "other": list(self.other), "unclear": list(self.unclear)}


def nearer(first: ModelColumn, other: ModelColumn) -> Nearer:
    """Compare two models by their agreement with the teacher."""
    found: dict[str, list[str]] = {"first": [], "other": [], "unclear": []}
    for name in TO_TEACHER:
        if name in first.metrics and name in other.metrics:
            gain = other.gains.get(name)
            if gain is None or not gain.clear:
                found["unclear"].append(name)
            else:
                is_better = (gain.mean > 0) == bool(metric_label(name).higher_is_better)
                found["other" if is_better else "first"].append(name)
    return Nearer(tuple(found["first"]), tuple(found["other"]), tuple(found["unclear"]))
