"""A command of the workbench beside the kernel: the notebook goes on meanwhile, and the kernel's end is its end."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from workbench.runs.apart import last_line, why_failed

COLOURED = ("FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE")  # with which a kernel's children take a file for a terminal


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
                    env={name: value for name, value in os.environ.items() if name not in COLOURED},
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
