"""What screens need of the application that runs them, and the messages that open other screens."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from textual.app import App
from textual.message import Message
from textual.screen import ModalScreen, Screen

from workbench.errors import visible
from workbench.process import ERROR_PREFIX, BackgroundProcess, last_line, start_background, why_failed
from workbench.runs.directory import RunDirectory
from workbench.tui.dialogs import Check, Confirm, Fields, Form
from workbench.tui.preferences import read_preferences, write_preferences

POLL_S = 0.5
SEPARATELY = "in a separate process that keeps running when the dashboard is closed"


@dataclass
class OpenRun(Message):
    """Open the screen of one run."""

    run: RunDirectory


@dataclass
class OpenStudy(Message):
    """Open the screen of one study."""

    name: str
    runs_dir: Path


@dataclass
class OpenWorkspace(Message):
    """Open several runs of a folder at once.

    ``runs`` are shown at first, by default the newest; with ``only``, no others are listed.
    """

    runs_dir: Path
    runs: Sequence[RunDirectory] = ()
    only: bool = False


@dataclass
class OpenNewRun(Message):
    """Open the screen on which a run is configured and started."""

    runs_dir: Path


def is_in_view(screen: Screen[Any]) -> bool:
    """Whether the screen is on top, or has only dialogs above it.

    Textual's ``is_current`` is also true of the screen below an opaque one; what is drawn there repaints all of the one
    on top.
    """
    stack = screen.app.screen_stack
    return screen in stack and all(isinstance(one, ModalScreen) for one in stack[stack.index(screen) + 1 :])


# A base class and not a Protocol: screens also use Textual's own App methods, and `Screen.app` must stay an App.
class Host(App[None]):
    """The application as its screens see it. Screens import this class; only the application imports screens."""

    def __init__(self) -> None:
        super().__init__()
        self.preferences = read_preferences()

    def save_preferences(self) -> None:
        """Write the preferences to disk."""
        write_preferences(self.preferences)

    def show_notice(self, text: str, *, is_error: bool = False) -> None:
        """Show a short notification. Markup in ``text`` is not interpreted: it may come from files."""
        severity: Literal["error", "information"] = "error" if is_error else "information"
        self.notify(visible(text, lines=True), severity=severity, timeout=8, markup=False)

    async def run_action(self, *args: Any, **kwargs: Any) -> bool:
        """Run an action of Textual. A ValueError becomes a notice: actions raise one where they cannot apply."""
        try:
            return await super().run_action(*args, **kwargs)
        except ValueError as error:
            self.show_notice(str(error), is_error=True)
            return True

    def confirm(self, title: str, effect: str, action: Callable[[], None]) -> None:
        """Ask for confirmation, then call ``action``. A ValueError becomes a notice."""

        def answered(yes: bool | None) -> None:
            if yes:
                self._attempt(action)

        self.push_screen(Confirm(title, effect), answered)

    def fill_form(self, title: str, fields: Fields, check: Check, action: Callable[[dict[str, str]], None]) -> None:
        """Open a form, then call ``action`` with its values. A ValueError becomes a notice."""

        def answered(values: dict[str, str] | None) -> None:
            if values is not None:
                self._attempt(lambda: action(values))

        self.push_screen(Form(title, fields, check), answered)

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except ValueError as error:
            self.show_notice(str(error), is_error=True)

    def run_command(self, arguments: list[str], done: Callable[[str], None], failed: str = "") -> None:
        """Run a ``workbench`` command, then call ``done`` with its stdout. An error is shown after ``failed``."""

        async def run() -> None:
            try:
                done(await call(arguments))
            except ValueError as error:
                self.show_notice(f"{failed}{error}", is_error=True)

        self.run_worker(run(), group="commands", exit_on_error=False)

    def start_process(self, title: str, arguments: list[str], output: Path) -> None:
        """Start a ``workbench`` command that outlives the dashboard; its error is shown if it fails before that.

        Raises:
            ValueError: it cannot be started, or ``output`` cannot be written.
        """
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot write to {output.parent}: {error.strerror or error}") from None
        process = start_background(arguments, output)
        self.show_notice(f"{title}; its output is in {output}")
        self.run_worker(self._report_failure(title, process), group="processes", exit_on_error=False)

    async def _report_failure(self, title: str, process: BackgroundProcess) -> None:
        while process.is_alive:
            await asyncio.sleep(POLL_S)
        if (last := process.last_line).startswith(ERROR_PREFIX):
            self.show_notice(f"{title}: failed: {why_failed(last)}", is_error=True)

    def start_sweep(self, title: str, arguments: list[str], runs_dir: Path, study: str) -> None:
        """Start a sweep by :meth:`start_process`; its output goes to a ``.log`` next to the study's storage."""
        from workbench.sweeps.storage import default_file  # slow to import, and the first screen does not need it

        self.start_process(title, arguments, default_file(runs_dir, study).with_suffix(".log"))


async def call(arguments: list[str]) -> str:
    """Run a ``workbench`` command in a subprocess and return its stdout.

    Raises:
        ValueError: the command failed; the message is its last line on stderr.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workbench", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the dashboard's terminal must not reach the command
    )
    out, err = await process.communicate()
    if process.returncode:
        raise ValueError(why_failed(last_line(err.decode(errors="replace"))))
    return out.decode(errors="replace")
