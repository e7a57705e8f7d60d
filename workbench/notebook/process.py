"""A progress bar, and ``workbench`` commands in a child process that stops when the notebook's kernel ends.

The child is ``python -m workbench.notebook.process ARGUMENTS``. It waits on a pipe from the kernel: however the kernel
ends, even by SIGKILL, the pipe closes, and the child stops itself by SIGTERM, which saves a checkpoint.
"""

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.formatting import duration
from workbench.process import last_line, why_failed

GRACE_S = 60.0  # to finish a step and save
COLORED = ("FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE")  # set by Jupyter; would put color codes into the output file


class Bar:
    """A progress bar with an estimate of the remaining time.

    Attributes:
        widget: to be displayed.
    """

    def __init__(self, total: int, label: str) -> None:
        import ipywidgets as widgets  # here: the child process imports this module and needs no widgets

        self._label, self._start = label, time.monotonic()
        self._bar = widgets.IntProgress(max=max(total, 1), layout=widgets.Layout(width="320px"))
        self._line = widgets.HTML(label)
        layout = widgets.Layout(flex_flow="row wrap", align_items="center", grid_gap="8px")
        self.widget: Any = widgets.HBox([self._bar, self._line], layout=layout)

    def add(self, number: int) -> None:
        """Advance by ``number``."""
        self.show(self._bar.value + number, self._bar.max, time.monotonic() - self._start)

    def show(self, done: int, total: int, elapsed_s: float) -> None:
        """Show ``done`` of ``total`` after ``elapsed_s`` seconds."""
        self._bar.max, self._bar.value = max(total, 1), done
        rest = "" if not 0 < done < total else f", about {duration(elapsed_s / done * (total - done))} left"
        self._line.value = f"{self._label}: {done:,} of {total:,}{rest}"

    def set_text(self, text: str) -> None:
        """Show ``text`` in place of the numbers."""
        self._line.value = text

    def end(self, text: str = "", *, success: bool = True) -> None:
        """Fill the bar, in green or, without success, in orange."""
        self._bar.bar_style = "success" if success else "warning"
        self._bar.value = self._bar.max
        self._line.value = text or f"{self._label}: done in {duration(time.monotonic() - self._start)}"


class Child:
    """``workbench ARGUMENTS`` in a child process that ends with this one, its output in a file.

    Raises:
        ValueError: it cannot be started, or its output file cannot be written.
    """

    def __init__(self, arguments: Sequence[str], output: Path) -> None:
        self.output = output
        command = [sys.executable, "-m", "workbench.notebook.process", *arguments]
        try:
            with output.open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,  # closes when this process ends
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={name: value for name, value in os.environ.items() if name not in COLORED},
                    start_new_session=True,  # interrupting a cell must not stop it
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
        """None while it runs; negative if it was ended by a signal."""
        return self._process.poll()

    @property
    def last_line(self) -> str:
        """The last line of its output."""
        try:
            text = self.output.read_text(errors="replace")
        except OSError:
            text = ""
        return why_failed(last_line(text))

    def stop(self) -> None:
        """Ask it to finish its step, save and exit; no effect if it has ended."""
        if self.is_alive:
            self._process.terminate()


def stop_with_parent() -> None:
    """Wait for standard input to close, then end this process: by SIGTERM, and after ``GRACE_S`` by SIGKILL."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=stop_with_parent, daemon=True).start()
    sys.argv[0] = "workbench"
    runpy.run_module("workbench", run_name="__main__")
