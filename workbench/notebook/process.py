"""``workbench`` commands in a child process that stops when the notebook's kernel ends.

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

from workbench.process import last_line, why_failed

GRACE_S = 60.0  # to finish a step and save
COLORED = ("FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE")  # set by Jupyter; would put color codes into the output file


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
    def exit_code(self) -> int | None:
        """None while it runs; negative if it was ended by a signal."""
        return self._process.poll()

    @property
    def is_alive(self) -> bool:
        return self.exit_code is None

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
