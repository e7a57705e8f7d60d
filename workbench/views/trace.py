"""A curve that grows while it is watched, in bounded memory."""

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from workbench.views.curves import Series

MOST_POINTS = 4096
GROUP = 4  # consecutive points of which two stay when there are too many


class Trace:
    """Values by step, with the seconds of training at which they were logged, as they come.

    At most ``most_points`` are kept. Where there are more, the least and the greatest of every four neighbours stay,
    so that a spike is never lost; a value that is not finite counts as the greatest. The newest point always stays.
    """

    def __init__(self, most_points: int = MOST_POINTS) -> None:
        assert most_points >= 2 * GROUP
        self._most_points = most_points
        self._steps: list[int] = []
        self._elapsed_s: list[float] = []
        self._values: list[float] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: int, elapsed_s: float, value: float) -> None:
        """Adds a point; one of an earlier step takes back all from there on."""
        if self._steps and step <= self._steps[-1]:
            self.cut(step - 1)
        self._steps.append(step)
        self._elapsed_s.append(elapsed_s)
        self._values.append(value)
        if len(self._steps) > self._most_points:
            self._thin()

    def cut(self, step: int) -> None:
        """Takes back all points beyond ``step``."""
        place = bisect_right(self._steps, step)
        del self._steps[place:], self._elapsed_s[place:], self._values[place:]

    @property
    def last(self) -> float | None:
        """The newest value; None before the first."""
        return self._values[-1] if self._values else None

    @property
    def series(self) -> Series:
        """The values over the steps."""
        return Series(np.array(self._steps, dtype=np.int64), np.array(self._values, dtype=np.float64))

    @property
    def elapsed_s(self) -> NDArray[np.float64]:
        """Seconds of training at each point, never falling."""
        elapsed: NDArray[np.float64] = np.maximum.accumulate(np.array(self._elapsed_s, dtype=np.float64))
        return elapsed

    def _thin(self) -> None:
        num_grouped = (len(self._values) - 1) // GROUP * GROUP
        values = np.array(self._values[:num_grouped]).reshape(-1, GROUP)
        values[~np.isfinite(values)] = np.inf
        first = np.arange(len(values)) * GROUP
        places = np.unique(np.concatenate([first + values.argmin(1), first + values.argmax(1)]))
        kept = [*places.tolist(), *range(num_grouped, len(self._values))]
        self._steps = [self._steps[place] for place in kept]
        self._elapsed_s = [self._elapsed_s[place] for place in kept]
        self._values = [self._values[place] for place in kept]


def smooth(values: NDArray[np.float64], amount: float) -> NDArray[np.float64]:
    """An exponential moving average without the pull of its start; what is not finite stays, and moves nothing.

    Args:
        values: float64 [N].
        amount: the part of the average that is kept at every point, in [0, 1); 0 changes nothing.
    """
    if amount == 0:
        return values
    average = weight = 0.0
    smoothed = values.copy()
    for place, value in enumerate(values.tolist()):
        if np.isfinite(value):
            average = amount * average + (1 - amount) * value
            weight = amount * weight + (1 - amount)
            smoothed[place] = average / weight
    return smoothed
