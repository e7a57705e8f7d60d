"""A plot before it is drawn: its curves, and the lens through which a person looks at them."""

from dataclasses import dataclass, field, replace

import numpy as np

from workbench.tui.charts.raster import Floats, Range
from workbench.tui.text import Axis
from workbench.views.curves import Trace, smooth

SMOOTHINGS = (0.0, 0.6, 0.9, 0.98)
INK = "ink"  # a curve in the colour of text
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, eq=False)
class Curve:
    """Values over steps and over seconds of training, float64 [N] each; ``colour`` is a hex number, or INK."""

    name: str
    colour: str
    step: Floats
    elapsed_s: Floats
    value: Floats

    def along(self, axis: Axis) -> Floats:
        """Where the points lie on the axis across."""
        return self.step if axis == "step" else self.elapsed_s


def curve(name: str, colour: str, trace: Trace, factor: float = 1.0) -> Curve:
    """The curve of what a run has logged."""
    series = trace.series
    return Curve(name, colour, series.step.astype(np.float64), trace.elapsed_s, series.value * factor)


@dataclass(frozen=True)
class Mark:
    """Something that happened on the way, and is drawn across the curves."""

    step: float
    elapsed_s: float
    text: str

    def along(self, axis: Axis) -> float:
        """Where it lies on the axis across."""
        return self.step if axis == "step" else self.elapsed_s


@dataclass(frozen=True)
class Plot:
    """What is drawn in one frame. ``empty`` is said where there is no curve yet.

    ``may_log`` and ``may_smooth``: whether the lens's log axis and smoothing apply to it. ``x_name``: what the axis
    across counts where that is not steps, nor time.
    """

    title: str
    curves: tuple[Curve, ...] = ()
    unit: str = ""
    marks: tuple[Mark, ...] = ()
    may_log: bool = False
    may_smooth: bool = False
    empty: str = "nothing yet"
    x_name: str = ""


@dataclass
class Lens:
    """How a person looks at all plots of a screen: they share it, so that moving in one moves in all.

    ``window`` is the part of the axis across that is shown, None for all of it; ``cursor`` a place on it.
    """

    is_log: bool = False
    smoothing: float = 0.0
    axis: Axis = "step"
    window: Range | None = None
    cursor: float | None = None
    version: int = field(default=0, compare=False)

    def turn_axis(self) -> None:
        """From steps to time or back; what was zoomed in on is left."""
        self.axis = "time" if self.axis == "step" else "step"
        self.window = self.cursor = None

    def turn_smoothing(self) -> None:
        """The next amount of smoothing."""
        place = SMOOTHINGS.index(self.smoothing) if self.smoothing in SMOOTHINGS else 0
        self.smoothing = SMOOTHINGS[(place + 1) % len(SMOOTHINGS)]

    def zoom(self, factor: float, whole: Range) -> None:
        """Shows ``factor`` times as much of the axis, around the cursor or, without one, up to the end."""
        low, high = self.window or whole
        centre = high if self.cursor is None else self.cursor
        share = (centre - low) / (high - low) if high > low else 0.5
        span = (high - low) * factor
        least = (whole[1] - whole[0]) / 1e4
        if span >= whole[1] - whole[0]:
            self.window = None
        elif span > least:
            self.window = _within((centre - share * span, centre + (1 - share) * span), whole)

    def pan(self, share: float, whole: Range) -> None:
        """Moves what is shown by a share of its width; without a zoom there is nowhere to go."""
        if self.window is not None:
            low, high = self.window
            by = share * (high - low)
            self.window = _within((low + by, high + by), whole)

    def move_cursor(self, columns: int, num_columns: int, whole: Range) -> None:
        """Moves the cursor by some of the columns that are drawn; it begins at the end."""
        low, high = self.window or whole
        if self.cursor is None:
            self.cursor = high
        else:
            by = columns * (high - low) / max(1, num_columns - 1)
            self.cursor = min(whole[1], max(whole[0], self.cursor + by))
        if not low <= self.cursor <= high:
            self.pan((self.cursor - (low if self.cursor < low else high)) / (high - low), whole)


def _within(window: Range, whole: Range) -> Range:
    shift = max(0.0, whole[0] - window[0]) - max(0.0, window[1] - whole[1])
    return window[0] + shift, window[1] + shift


def whole_range(plot: Plot, axis: Axis) -> Range:
    """From the first point of any curve to the last; of no width where there is but one, or none."""
    ends = [found for one in plot.curves if len(found := one.along(axis)[np.isfinite(one.along(axis))])]
    if not ends:
        return (0.0, 0.0)
    return float(min(found[0] for found in ends)), float(max(found[-1] for found in ends))


def seen(plot: Plot, lens: Lens) -> Plot:
    """The plot with its curves smoothed as the lens asks."""
    if not (plot.may_smooth and lens.smoothing):
        return plot
    curves = tuple(replace(one, value=smooth(one.value, lens.smoothing)) for one in plot.curves)
    return replace(plot, curves=curves)
