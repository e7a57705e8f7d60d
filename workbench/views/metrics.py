"""The label, unit and better direction of each metric, for all tables and figures."""

import math
import re
from dataclasses import dataclass, replace

from workbench.errors import visible


@dataclass(frozen=True)
class MetricLabel:
    """How one metric is displayed.

    ``factor`` converts a stored value to ``unit`` (a fraction to percent); ``digits`` are shown after the decimal
    point. ``higher_is_better`` is None if neither direction is better. ``bounds`` are the possible values, in the
    stored unit.
    """

    name: str
    label: str
    unit: str = ""
    higher_is_better: bool | None = True
    factor: float = 1.0
    digits: int = 2
    bounds: tuple[float, float] = (-math.inf, math.inf)

    @property
    def title(self) -> str:
        """The label with its unit, for an axis or a column."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def difference_unit(self) -> str:
        """The unit of a difference: a difference of percentages is in points."""
        return "points" if self.unit == "%" else self.unit

    def margin(self, points: float) -> float:
        """A margin in percentage points, in the stored unit; 0 for a metric that is not a percentage."""
        return points / self.factor if self.unit == "%" else 0.0

    def number(self, value: float | None, *, signed: bool = False) -> str:
        """``value`` in ``unit``; a dash if it is None or not finite."""
        if value is None or not math.isfinite(value):
            return "\N{EN DASH}"
        shown = round(value * self.factor, self.digits) + 0.0  # + 0.0 turns -0.0 into 0.0
        return f"{shown:{'+' if signed else ''}.{self.digits}f}".replace("-", "\N{MINUS SIGN}")

    def interval(self, low: float, high: float, *, signed: bool = False) -> str:
        """An interval such as "1.2 to 3.4"; empty if an end is not finite, as for a single seed.

        Student's t intervals can exceed the metric's range: ends are clipped to ``bounds``, except for the interval of
        a difference (``signed``). JSON and CSV keep the computed ends.
        """
        if not math.isfinite(low + high):
            return ""
        least, most = (-math.inf, math.inf) if signed else self.bounds
        ends = (min(max(end, least), most) for end in (low, high))
        return " to ".join(self.number(end, signed=signed) for end in ends)


def _share(name: str, label: str) -> MetricLabel:
    return MetricLabel(name, label, "%", factor=100.0, digits=1, bounds=(0.0, 1.0))


COSINE, POSITIVE = (-1.0, 1.0), (0.0, math.inf)


METRIC_LABELS: dict[str, MetricLabel] = {
    metric.name: metric
    for metric in (
        _share("zero_shot_top1", "zero-shot top-1"),
        _share("zero_shot_top5", "zero-shot top-5"),
        _share("image_to_text_r1", "image→text R@1"),
        _share("image_to_text_r5", "image→text R@5"),
        _share("image_to_text_r10", "image→text R@10"),
        _share("text_to_image_r1", "text→image R@1"),
        _share("text_to_image_r5", "text→image R@5"),
        _share("text_to_image_r10", "text→image R@10"),
        *(
            _share(f"{kind}_{name}", f"{kind} {label}")
            for kind in ("box", "mask")
            for name, label in (
                ("ap", "AP"),
                ("ap50", "AP50"),
                ("ap75", "AP75"),
                ("ap_small", "AP small"),
                ("ap_medium", "AP medium"),
                ("ap_large", "AP large"),
                ("ap_seen", "AP seen"),
                ("ap_unseen", "AP unseen"),
            )
        ),
        MetricLabel("similarity_single", "same-modal cosine", bounds=COSINE),
        MetricLabel("similarity_cross", "cross-modal cosine", bounds=COSINE),
        MetricLabel("cka", "linear CKA", bounds=(0.0, 1.0)),
        MetricLabel("affinity_kl", "affinity KL", "nats", higher_is_better=False, bounds=POSITIVE),
        MetricLabel("mutual_information_image", "I(student image; teacher text) \N{GREATER-THAN OR EQUAL TO}", "nats"),
        MetricLabel("mutual_information_text", "I(student text; teacher image) \N{GREATER-THAN OR EQUAL TO}", "nats"),
        MetricLabel("affinity_entropy", "affinity entropy", "nats", higher_is_better=None, bounds=POSITIVE),
        MetricLabel("loss_scratch", "weighted loss at scratch", higher_is_better=None, digits=3),
        MetricLabel("loss_converged", "weighted loss when trained", higher_is_better=None, digits=3),
        MetricLabel("num_params", "parameters", "M", higher_is_better=False, factor=1e-6, bounds=POSITIVE),
        MetricLabel("elapsed_s", "training time", "s", higher_is_better=False, digits=0, bounds=POSITIVE),
        *(
            MetricLabel(f"{tower}_{part}_kept", f"{tower} {words} kept", "%", None, 100.0, 1, (0.0, 1.0))
            for tower in ("image", "text")
            for part, words in (("width", "width"), ("heads", "heads"), ("channels", "FFN"), ("weights", "weights"))
        ),
    )
}


def metric_label(name: str) -> MetricLabel:
    """The label of ``name``; a metric that is not in ``METRIC_LABELS`` is labeled with its name.

    ``ImageNet/zero_shot_top1`` is a metric of a suite's evaluation, ``linear_probe_16`` one of a 16-shot probe.
    """
    if name in METRIC_LABELS:
        return METRIC_LABELS[name]
    evaluation, slash, metric = name.rpartition("/")
    if slash:
        label = metric_label(metric)
        return replace(label, name=name, label=f"{visible(evaluation)}: {label.label}")
    if shots := re.fullmatch(r"linear_probe_(all|\d+)", name):
        return _share(name, "linear probe" if shots[1] == "all" else f"{shots[1]}-shot linear probe")
    return MetricLabel(name, visible(name.replace("_", " ")), higher_is_better=None)


def in_order(names: set[str]) -> list[str]:
    """Metric names in the order of ``METRIC_LABELS``, then the others alphabetically."""
    return [name for name in METRIC_LABELS if name in names] + sorted(names - METRIC_LABELS.keys())
