"""What screens need of the application that runs them, and the messages that open other screens."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from textual.app import App
from textual.message import Message

from workbench.errors import visible
from workbench.runs.directory import RunDirectory
from workbench.tui.dialogs import Check, Confirm, Fields, Form
from workbench.tui.preferences import read_preferences, write_preferences

if TYPE_CHECKING:
    from workbench.process import BackgroundProcess


class OpenRun(Message):
    """Open the screen of one run."""

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self.run = run


class OpenStudy(Message):
    """Open the screen of one study."""

    def __init__(self, name: str, runs_dir: Path) -> None:
        super().__init__()
        self.name, self.runs_dir = name, runs_dir


class OpenComparison(Message):
    """Open two or more runs side by side."""

    def __init__(self, runs: Sequence[RunDirectory]) -> None:
        super().__init__()
        self.runs = runs


class OpenNewRun(Message):
    """Open the screen on which a run is configured and started."""

    def __init__(self, runs_dir: Path) -> None:
        super().__init__()
        self.runs_dir = runs_dir


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

    def watch_process(self, title: str, process: "BackgroundProcess") -> None:
        """Notify that a process has started, and of its error if it fails while the dashboard is open."""

        async def report_failure() -> None:
            from workbench.tui.commands import failure_of

            if error := await failure_of(process):
                self.show_notice(f"{title}: failed: {error}", is_error=True)

        self.show_notice(f"{title}; its output is in {process.output}")
        self.run_worker(report_failure(), group="processes", exit_on_error=False)
