"""A command of the workbench beside the kernel: the notebook goes on meanwhile, and the kernel's end is its end."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from workbench.formatting import duration
from workbench.process import last_line, why_failed

# A bar for what takes a while, with the time that is left.


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


COLORED = ("FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE")  # with which a kernel's children take a file for a terminal


class Child:
    """``workbench ARGUMENTS`` in a process of its own, on a leash (see ``leash``), its words in a file.

    Raises:
        ValueError: it cannot be started, or its output cannot be written.
    """

    def __init__(self, arguments: Sequence[str], output: Path) -> None:
        self.output = output
        command = [sys.executable, "-m", "workbench.notebook.leash", *arguments]
        try:
            with output.open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,  # the leash: this end closes with the kernel
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={name: value for name, value in os.environ.items() if name not in COLORED},
                    start_new_session=True,  # interrupting a cell is not meant for it
                )
        except OSError as error:
            raise ValueError(f"cannot start workbench with its output in {output}: {error.strerror}") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it is alive; negative if a signal ended it."""
        return self._process.poll()

    @property
    def last_words(self) -> str:
        """The last line that it printed."""
        try:
            said = self.output.read_text(errors="replace")
        except OSError:
            said = ""
        return why_failed(last_line(said))

    def stop(self) -> None:
        """Ask it to finish its step, save and end; nothing where it has."""
        if self.is_alive:
            self._process.terminate()
