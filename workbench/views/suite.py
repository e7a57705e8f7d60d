"""Results of a suite as a table, with means over its zero-shot sets and over the shifted sets of a reference."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from workbench.views.metrics import MetricLabel, metric_label

if TYPE_CHECKING:
    from workbench.runs.suites import SuiteResult

TOP1 = "zero_shot_top1"
# The metrics of a table; JSON has all. A linear probe shows every number of shots.
HEADLINES = {"zero-shot": (TOP1,), "retrieval": ("image_to_text_r1", "text_to_image_r1"), "linear-probe": ()}


@dataclass(frozen=True)
class SuiteRow:
    """One metric of one evaluation, or of a mean over several."""

    name: str
    metric: MetricLabel
    value: float
    error: float | None = None
    chance: float | None = None
    num_images: int | None = None

    def cells(self) -> list[str]:
        """Name, metric, value, standard error, chance and number of images as text."""
        error = "" if self.error is None else f"± {self.metric.number(self.error)}"
        chance = "" if self.chance is None else self.metric.number(self.chance)
        images = "" if self.num_images is None else f"{self.num_images:,}"
        return [self.name, self.metric.title, self.metric.number(self.value), error, chance, images]


COLUMNS = ["evaluation", "metric", "value", "std. error", "chance", "images"]


@dataclass(frozen=True)
class SuiteSummary:
    """A number over several evaluations.

    ``kind`` is "zero_shot_mean", "shifted_mean" or "effective_robustness"; ``of`` names the evaluations in it, and
    ``reference`` that of which they are shifts, if any.
    """

    kind: str
    value: float
    error: float
    of: tuple[str, ...]
    reference: str = ""

    @property
    def row(self) -> SuiteRow:
        """As a row of the table."""
        number = len(self.of)
        names = {
            "zero_shot_mean": f"mean of {number} zero-shot sets",
            "shifted_mean": f"mean of {number} shifts of {self.reference}",
            "effective_robustness": f"{self.of[0]}, beyond what {self.reference} predicts",
        }
        metric = metric_label(TOP1)
        if self.kind == "effective_robustness":
            metric = MetricLabel("effective_robustness", "effective robustness", "points", factor=100.0, digits=1)
        return SuiteRow(names[self.kind], metric, self.value, self.error)

    def to_json(self) -> dict[str, Any]:
        """The summary in ``--json``."""
        return asdict(self) | {"of": list(self.of)}


@dataclass(frozen=True)
class SuiteView:
    """The results of one suite: all of them, and numbers over several."""

    name: str
    rows: tuple[SuiteRow, ...]
    summaries: tuple[SuiteSummary, ...]

    def table(self) -> list[list[str]]:
        """All rows as text, in the order of :data:`COLUMNS`."""
        return [row.cells() for row in (*self.rows, *(summary.row for summary in self.summaries))]


def suite_views(results: "Sequence[SuiteResult]") -> list[SuiteView]:
    """A view per suite, or per suite and checkpoint where they were measured at several."""
    groups: dict[tuple[str, int | None], list[SuiteResult]] = {}
    for result in results:
        groups.setdefault((result.suite, result.step), []).append(result)
    return [
        SuiteView(
            suite if step is None else f"{suite}, step {step:,}",
            tuple(row for result in own for row in _rows(result)),
            tuple(summaries(own)),
        )
        for (suite, step), own in groups.items()
    ]


def headlines(result: "SuiteResult") -> list[str]:
    """The metrics of a result that a table shows."""
    return [name for name in HEADLINES[result.task] or result.metrics if name in result.metrics]


def flattened(results: "Iterable[SuiteResult]") -> tuple[dict[str, float], dict[str, float]]:
    """Metrics and standard errors of all results by name, such as ``ImageNet/zero_shot_top1``."""
    shown = [(result, name) for result in results for name in headlines(result)]
    metrics = {f"{result.name}/{name}": result.metrics[name] for result, name in shown}
    errors = {f"{result.name}/{name}": result.errors[name] for result, name in shown if name in result.errors}
    return metrics, errors


def _rows(result: "SuiteResult") -> Iterator[SuiteRow]:
    for place, name in enumerate(headlines(result)):
        error, chance = result.errors.get(name), result.chance.get(name)
        shown = (result.name, result.num_images) if place == 0 else ("", None)
        yield SuiteRow(shown[0], metric_label(name), result.metrics[name], error, chance, shown[1])


def summaries(results: "Sequence[SuiteResult]") -> Iterator[SuiteSummary]:
    """The mean over the zero-shot sets, and over the shifts of each reference, and effective robustness.

    Effective robustness (Taori et al. 2020) is the accuracy on a shifted set minus what standard models with the same
    accuracy on the reference reach there, which a suite gives as ``expected``. Errors are those of independent sets.
    """
    scored = {result.name: result for result in results if TOP1 in result.metrics}
    if len(scored) > 1:
        yield _mean("zero_shot_mean", list(scored.values()))
    for reference in dict.fromkeys(result.shift_of for result in scored.values() if result.shift_of):
        shifts = [one for one in scored.values() if one.shift_of == reference]
        if len(shifts) > 1:
            yield _mean("shifted_mean", shifts, reference)
    for name, result in scored.items():
        if result.expected and result.shift_of in scored:
            yield _effective(name, result, scored[result.shift_of])


def _mean(kind: str, results: "Sequence[SuiteResult]", reference: str = "") -> SuiteSummary:
    total = sum(result.metrics[TOP1] for result in results)
    error = math.hypot(*(result.errors[TOP1] for result in results)) / len(results)
    return SuiteSummary(kind, total / len(results), error, tuple(result.name for result in results), reference)


def _effective(name: str, result: "SuiteResult", reference: "SuiteResult") -> SuiteSummary:
    assert result.expected is not None
    accuracy, slope = reference.metrics[TOP1], result.expected.slope
    if 0 < accuracy < 1:
        logit = slope * math.log(accuracy / (1 - accuracy)) + result.expected.intercept
        expected = 1 / (1 + math.exp(-logit))
        # The derivative of the expected accuracy, for the part of the error that comes from the reference.
        change = slope * expected * (1 - expected) / (accuracy * (1 - accuracy))
    else:
        expected, change = accuracy, 0.0  # the logit is infinite
    error = math.hypot(result.errors[TOP1], change * reference.errors[TOP1])
    return SuiteSummary("effective_robustness", result.metrics[TOP1] - expected, error, (name,), reference.name)
