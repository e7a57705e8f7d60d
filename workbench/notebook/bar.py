"""A bar for what takes a while, with the time that is left."""

import time
from typing import Any

import ipywidgets as widgets

from workbench.views.units import duration


class Bar:
    """How much of ``total`` is done, of what, and how long the rest will take at the pace so far.

    Attributes:
        widget: to be displayed.
    """

    def __init__(self, total: int, doing: str) -> None:
        self._doing, self._start = doing, time.monotonic()
        self._bar = widgets.IntProgress(max=max(total, 1), layout=widgets.Layout(width="320px"))
        self._line = widgets.HTML(doing)
        layout = widgets.Layout(flex_flow="row wrap", align_items="center", grid_gap="8px")
        self.widget: Any = widgets.HBox([self._bar, self._line], layout=layout)

    def add(self, number: int) -> None:
        """So many more are done."""
        self.show(self._bar.value + number, self._bar.max, time.monotonic() - self._start)

    def show(self, done: int, total: int, elapsed_s: float) -> None:
        """So many are done after so many seconds."""
        self._bar.max, self._bar.value = max(total, 1), done
        rest = "" if not 0 < done < total else f", about {duration(elapsed_s / done * (total - done))} left"
        self._line.value = f"{self._doing}: {done:,} of {total:,}{rest}"

    def say(self, words: str) -> None:
        """Put these words in the place of how much is done."""
        self._line.value = words

    def end(self, words: str = "", *, good: bool = True) -> None:
        """It is over; the bar is green, or orange where it ended badly."""
        self._bar.bar_style = "success" if good else "warning"
        self._bar.value = self._bar.max
        self._line.value = words or f"{self._doing}: done in {duration(time.monotonic() - self._start)}"
