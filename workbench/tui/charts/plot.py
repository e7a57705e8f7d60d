"""A plot's data, and the lens: axis, smoothing, zoom and cursor, shared by the charts of a screen."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from workbench.tui.charts.raster import Floats, Range
from workbench.tui.preferences import Axis
from workbench.tui.text import Table
from workbench.views.curves import Trace, smooth

SMOOTHINGS = (0.0, 0.6, 0.9, 0.98)
INK = "ink"  # the text color
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, eq=False)
class Curve:
    """Values over steps and over seconds of training, float64 [N] each; ``color`` is a hex number, or INK.

    Attributes:
        letter: marks the curve's end; empty for the next letter in its plot.
        batch_size: pairs in a step; 1 where it is unknown.
        clock_s: seconds since 1970 at each point, float64 [N]; None where they are unknown.
        band: the least and the greatest value at each point, float64 [2, N], of a mean over runs.
    """

    name: str
    color: str
    step: Floats
    elapsed_s: Floats
    value: Floats
    letter: str = ""
    batch_size: int = 1
    clock_s: Floats | None = None
    band: Floats | None = None

    def along(self, axis: Axis) -> Floats:
        """The points' x coordinates, float64 [N]."""
        if axis == "pairs":
            return self.step * self.batch_size
        if axis == "clock" and self.clock_s is not None:
            return self.clock_s
        return self.step if axis == "step" else self.elapsed_s


def curve(name: str, color: str, trace: Trace, factor: float = 1.0, letter: str = "") -> Curve:
    """A curve from a logged trace; ``factor`` scales its values."""
    series = trace.series
    return Curve(name, color, series.step.astype(np.float64), trace.elapsed_s, series.value * factor, letter)


def letter_of(place: int) -> str:
    """The letter of curve ``place``, from 0: a to z, then A to Z, and from the start again."""
    return LETTERS[place % len(LETTERS)]


@dataclass(frozen=True)
class Mark:
    """An event during training, drawn as a vertical line."""

    step: float
    elapsed_s: float
    text: str

    def along(self, axis: Axis) -> float:
        return self.step if axis == "step" else self.elapsed_s


@dataclass(frozen=True)
class Plot:
    """The contents of one chart. ``empty`` is shown if there is no curve yet.

    ``may_log`` and ``may_smooth``: whether the lens's log axis and smoothing apply. ``x_name``: label of an x axis that
    is neither steps nor time. ``is_brief``: the heading has no names, as a list elsewhere has them.
    """

    title: str
    curves: tuple[Curve, ...] = ()
    unit: str = ""
    marks: tuple[Mark, ...] = ()
    may_log: bool = False
    may_smooth: bool = False
    empty: str = "nothing yet"
    x_name: str = ""
    is_brief: bool = False

    @property
    def has_points(self) -> bool:
        return any(len(one.value) for one in self.curves)


@dataclass
class Lens:
    """View settings that all charts of a screen share, so that zooming one zooms all.

    ``window`` is the visible range of x, None for all of it; ``cursor`` is an x coordinate, None without a cursor.
    """

    is_log: bool = False
    smoothing: float = 0.0
    axis: Axis = "step"
    window: Range | None = None
    cursor: float | None = None
    drawing_s: float = 0.0  # spent on drawing since it was last set to 0

    def turn_axis(self, axes: Sequence[Axis]) -> None:
        """Switch to the next of these axes, and reset zoom and cursor."""
        self.axis = axes[(axes.index(self.axis) + 1) % len(axes)] if self.axis in axes else axes[0]
        self.window = self.cursor = None

    def turn_smoothing(self) -> None:
        """Switch to the next amount of smoothing."""
        place = SMOOTHINGS.index(self.smoothing) if self.smoothing in SMOOTHINGS else 0
        self.smoothing = SMOOTHINGS[(place + 1) % len(SMOOTHINGS)]

    def zoom(self, factor: float, full: Range) -> None:
        """Scale the visible range by ``factor`` around the cursor, or around the right end without one."""
        low, high = self.window or full
        center = high if self.cursor is None else self.cursor
        share = (center - low) / (high - low) if high > low else 0.5
        span = (high - low) * factor
        least = (full[1] - full[0]) / 1e4  # a limit to zooming in, before float64 runs out of digits
        if span >= full[1] - full[0]:
            self.window = None
        elif span > least:
            self.window = _within((center - share * span, center + (1 - share) * span), full)

    def pan(self, share: float, full: Range) -> None:
        """Move the window by a fraction of its width; no effect without zoom."""
        if self.window is not None:
            low, high = self.window
            by = share * (high - low)
            self.window = _within((low + by, high + by), full)

    def move_cursor(self, columns: int, num_columns: int, full: Range) -> None:
        """Move the cursor by a number of columns; the first move places it at the right end."""
        low, high = self.window or full
        if self.cursor is None:
            self.cursor = high
        else:
            by = columns * (high - low) / max(1, num_columns - 1)
            self.cursor = min(full[1], max(full[0], self.cursor + by))
        # Pan just far enough that the cursor is visible again.
        if not low <= self.cursor <= high:
            self.pan((self.cursor - (low if self.cursor < low else high)) / (high - low), full)


def _within(window: Range, full: Range) -> Range:
    shift = max(0.0, full[0] - window[0]) - max(0.0, window[1] - full[1])
    return window[0] + shift, window[1] + shift


def full_range(plot: Plot, axis: Axis) -> Range:
    """The x range of all curves; (0, 0) without points."""
    ends = [x for one in plot.curves if len(x := one.along(axis)[np.isfinite(one.along(axis))])]
    return (float(min(x[0] for x in ends)), float(max(x[-1] for x in ends))) if ends else (0.0, 0.0)


def smoothed(plot: Plot, lens: Lens) -> Plot:
    """The plot with its curves smoothed by the lens's setting."""
    if not (plot.may_smooth and lens.smoothing):
        return plot
    return replace(plot, curves=tuple(replace(one, value=smooth(one.value, lens.smoothing)) for one in plot.curves))


def plots_table(plots: Iterable[Plot]) -> Table:
    """The data to export: every point with its plot, curve, step, seconds of training, value and unit."""
    rows = [
        [plot.title, one.name, f"{step:.0f}", f"{elapsed_s:.3f}", repr(value), plot.unit]
        for plot in plots
        for one in plot.curves
        for step, elapsed_s, value in zip(one.step.tolist(), one.elapsed_s.tolist(), one.value.tolist(), strict=True)
    ]
    return ["plot", "curve", "step", "elapsed_s", "value", "unit"], rows
