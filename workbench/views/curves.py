"""One run's events -> its curves: loss, weighted terms and metrics over the steps, as arrays."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.events import EvalDone, Event, StepDone


@dataclass(frozen=True)
class Series:
    """Values over steps: ``step`` int64 and ascending, ``value`` float64, of equal length."""

    step: NDArray[np.int64]
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True)
class Curves:
    """What one run logged over time.

    A term that was off for a while (weight 0) has fewer points than the loss. ``metrics`` is by split, then
    by name.
    """

    run: str
    loss: Series
    weighted: dict[str, Series]
    metrics: dict[str, dict[str, Series]]


def curves(events: Iterable[Event]) -> Curves:
    """The curves of one run, from its events as ``runs`` replays them (superseded lines left out).

    Where a step was logged twice, the later line counts.

    Raises:
        ValueError: there is no event, or the events are of several runs.
    """
    events = list(events)
    runs = {event.run for event in events}
    if len(runs) != 1:
        raise ValueError(f"curves are of one run, not {len(runs)}: pass the events of each run by itself")
    loss: dict[int, float] = {}
    weighted: dict[str, dict[int, float]] = {}
    metrics: dict[str, dict[str, dict[int, float]]] = {}
    for event in events:
        if isinstance(event, StepDone):
            loss[event.step] = event.loss
            for name, value in event.weighted.items():
                weighted.setdefault(name, {})[event.step] = value
        elif isinstance(event, EvalDone):
            for name, value in event.metrics.items():
                metrics.setdefault(event.split, {}).setdefault(name, {})[event.step] = value
    return Curves(
        runs.pop(),
        _series(loss),
        {name: _series(points) for name, points in weighted.items()},
        {split: {name: _series(points) for name, points in of.items()} for split, of in metrics.items()},
    )


def _series(points: dict[int, float]) -> Series:
    steps = sorted(points)
    return Series(np.array(steps, dtype=np.int64), np.array([points[step] for step in steps], dtype=np.float64))
