"""The dashboard's application: it opens screens, and holds the themes, the global keys and the signal handlers."""

import asyncio
import contextlib
import re
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from rich.segment import Segment
from textual import on
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.filter import LineFilter
from textual.screen import Screen
from textual.theme import Theme

from workbench.errors import visible
from workbench.files import explained, write_atomically
from workbench.formatting import to_csv
from workbench.runs.directory import RunDirectory, list_runs
from workbench.tui.dialogs import GLOBAL_ACTIONS, Keys
from workbench.tui.host import Host, OpenNewRun, OpenRun, OpenStudy, OpenWorkspace
from workbench.tui.text import Table

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
# Okabe and Ito's colors, as in all figures: success, warning and error differ for the color-blind too.
THEMES = (
    Theme(
        "workbench-dark",
        primary="#56B4E9",
        secondary="#0072B2",
        accent="#E69F00",
        warning="#E69F00",
        error="#F0743E",
        success="#2FC296",
        foreground="#E4E4E4",
        background="#101418",
        surface="#1A2026",
        panel="#242C34",
    ),
    Theme(
        "workbench-light",
        primary="#0072B2",
        secondary="#56B4E9",
        accent="#9E5900",
        warning="#8A5A00",
        error="#B03A00",
        success="#00694C",
        foreground="#1A1A1A",
        background="#FAFAFA",
        surface="#F0F1F2",
        panel="#E2E5E8",
        dark=False,
    ),
)


class OnlyPrintable(LineFilter):
    """Drops control and other unprintable characters that a widget has let through from a file.

    They have no width, so a line keeps the length that was measured.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The printable segments of one line."""
        del background
        return [
            segment
            if segment.control or segment.text.isprintable()
            else Segment("".join(one for one in segment.text if visible(one) == one), segment.style)
            for segment in segments
        ]


ONLY_PRINTABLE = OnlyPrintable()


class Workbench(Host):
    """Displays and controls runs. Runs are processes of their own: quitting the dashboard does not affect them."""

    TITLE = "workbench"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "keys", "keys", key_display="?"),
        Binding("q", "quit", "quit"),
        Binding("t", "toggle_theme", "light or dark", show=False),
        Binding("e", "export", "export the screen (SVG) and its data (CSV)", show=False),
        Binding("Y", "copy", "copy the data of the screen", show=False),
    ]

    def __init__(self, runs_dir: Path, run: RunDirectory | None = None, study: str = "") -> None:
        """``run`` or ``study`` is opened at once."""
        super().__init__()
        self.runs_dir = runs_dir
        self._first_run, self._first_study = run, study
        for theme in THEMES:
            self.register_theme(theme)

    def on_mount(self) -> None:
        from workbench.tui.home.screen import HomeScreen

        self.theme = self.preferences.theme if self.preferences.theme in self.available_themes else THEMES[0].name
        self.theme_changed_signal.subscribe(self, self._save_theme)
        self.push_screen(HomeScreen(self.runs_dir))
        if self._first_run is not None:
            self._open_run(OpenRun(self._first_run))
        elif self._first_study:
            self._open_study(OpenStudy(self._first_study, self.runs_dir))
        elif self.preferences.opens == "workspace" and self._has_several_runs():
            self._open_workspace(OpenWorkspace(self.runs_dir))
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
                loop.add_signal_handler(number, self._exit_on_signal, number)

    def _has_several_runs(self) -> bool:
        with contextlib.suppress(OSError, ValueError):  # the table of runs says what is wrong with the folder
            return len(list_runs(self.runs_dir)) > 1
        return False

    # A screen is imported when it is first opened: the dashboard starts faster with the first screen alone.

    @on(OpenRun)
    def _open_run(self, message: OpenRun) -> None:
        from workbench.tui.run.screen import RunScreen

        self.push_screen(RunScreen(message.run))

    @on(OpenStudy)
    def _open_study(self, message: OpenStudy) -> None:
        from workbench.tui.study.screen import StudyScreen

        self.push_screen(StudyScreen(message.name, message.runs_dir))

    @on(OpenWorkspace)
    def _open_workspace(self, message: OpenWorkspace) -> None:
        from workbench.tui.home.board import Board
        from workbench.tui.workspace.screen import WorkspaceScreen

        self.push_screen(WorkspaceScreen(Board(message.runs_dir), message.runs, only=message.only))

    @on(OpenNewRun)
    def _open_new_run(self, message: OpenNewRun) -> None:
        from workbench.tui.new_run import NewRunScreen

        self.push_screen(NewRunScreen(message.runs_dir))

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters, then the one for unprintable characters, on every line of every widget."""
        return [*super().get_line_filters(), ONLY_PRINTABLE]

    def _exit_on_signal(self, number: int) -> None:
        # `exit` restores the terminal; 128 + number is the exit code that shells report for a signal.
        self.exit(return_code=128 + number)

    def _save_theme(self, theme: Theme) -> None:
        self.preferences.theme = theme.name
        self.save_preferences()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The commands of the palette: the action of every active key, then Textual's own."""
        listed = {*GLOBAL_ACTIONS, "command_palette"}
        for active in screen.active_bindings.values():
            binding = active.binding
            if binding.description and active.enabled and binding.action not in listed:
                listed.add(binding.action)
                node, action = active.node, binding.action
                yield SystemCommand(
                    f"{binding.description} ({self.get_key_display(binding)})",
                    "",
                    lambda node=node, action=action: self.call_later(self.run_action, action, node),
                )
        yield from (command for command in super().get_system_commands(screen) if command.title not in ("Keys", "Quit"))

    def action_keys(self) -> None:
        if not isinstance(self.screen, Keys):
            self.push_screen(Keys(self.screen))

    def action_toggle_theme(self) -> None:
        self.theme = THEMES[self.current_theme.dark].name

    def action_export(self) -> None:
        if (table := self._table()) is None:
            return
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", getattr(self.screen, "export_name", "screen"))
        stem = f"workbench-{name}-{time.strftime('%m%d-%H%M%S')}"
        contents = {f"{stem}.svg": self.export_screenshot(), f"{stem}.csv": to_csv(*table)}
        for file, content in contents.items():
            with explained(Path.cwd(), "start the dashboard in another folder"):
                write_atomically(Path.cwd() / file, content)
        self.show_notice("saved " + ", ".join(str(Path.cwd() / file) for file in contents))

    def action_copy(self) -> None:
        if (table := self._table()) is None:
            return
        text = to_csv(*table, separator="\t")
        self.copy_to_clipboard(text)
        self.show_notice(f"copied {text.count(chr(10)) - 1} rows, if the terminal supports OSC 52")

    def _table(self) -> Table | None:
        """The data of the screen; None where it has none, such as a dialog."""
        find = getattr(self.screen, "table", None)
        return find() if find else None


def show(runs_dir: Path, run: RunDirectory | None = None, study: str = "") -> None:
    """Run the dashboard until it is closed; exit with 128 + N if signal N ended it."""
    app = Workbench(runs_dir, run, study)
    app.run()
    if app.return_code:
        sys.exit(app.return_code)
