"""The dashboard: the one application that its screens run in."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.filter import LineFilter
from textual.screen import Screen
from textual.theme import Theme

from workbench.formatting import to_csv
from workbench.runs.directory import RunDirectory
from workbench.terminal import visible
from workbench.tui.dialogs import OF_ALL_SCREENS, Keys
from workbench.tui.export import Table, write_export
from workbench.tui.preferences import Preferences, recall, remember

if TYPE_CHECKING:
    from workbench.process import BackgroundProcess

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
# Okabe and Ito's colours, as in all figures: good, odd and bad differ for the colour-blind too.
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
        accent="#A65E00",
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
    """Leaves out what no widget should have let through: control characters, and others that are not printed.

    They have no width, so that a line stays as long as it was measured.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments of one line, as they go to the terminal."""
        del background
        return [
            segment
            if segment.control or segment.text.isprintable()
            else Segment("".join(one for one in segment.text if visible(one) == one), segment.style)
            for segment in segments
        ]


ONLY_PRINTABLE = OnlyPrintable()


class Workbench(App[None]):
    """Shows runs; quitting it never touches one."""

    TITLE = "workbench"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "keys", "keys", key_display="?"),
        Binding("q", "quit", "quit"),
        Binding("t", "turn_theme", "light or dark", show=False),
        Binding("e", "export", "export the screen (SVG) and its data (CSV)", show=False),
        Binding("Y", "copy", "copy the data on screen", show=False),
    ]

    def __init__(self, runs_dir: Path, run: RunDirectory | None = None, study: str = "") -> None:
        """``run`` or ``study`` is opened at once."""
        super().__init__()
        self.runs_dir = runs_dir
        self.memory: Preferences = recall()
        self._first_run, self._first_study = run, study
        for theme in THEMES:
            self.register_theme(theme)

    def on_mount(self) -> None:
        from workbench.tui.home.screen import HomeScreen

        self.theme = self.memory.theme if self.memory.theme in self.available_themes else THEMES[0].name
        self.theme_changed_signal.subscribe(self, self._keep_theme)
        self.push_screen(HomeScreen(self.runs_dir))
        if self._first_run is not None:  # a screen that is not shown is not loaded: the first one is to come at once
            from workbench.tui.run.screen import RunScreen

            self.push_screen(RunScreen(self._first_run))
        elif self._first_study:
            from workbench.tui.study.screen import StudyScreen

            self.push_screen(StudyScreen(self._first_study, self.runs_dir))
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
                loop.add_signal_handler(number, self._leave, number)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Every line of every widget goes through these."""
        return [*super().get_line_filters(), ONLY_PRINTABLE]

    def _leave(self, number: int) -> None:
        """The terminal is restored on the way out; the exit code is the shell's for the signal."""
        self.exit(return_code=128 + number)

    def _keep_theme(self, theme: Theme) -> None:
        self.memory.theme = theme.name
        self.keep()

    def keep(self) -> None:
        """Remembers how the person likes it."""
        remember(self.memory)

    def say(self, text: str, *, is_wrong: bool = False) -> None:
        """A short notice; text from files is shown as it is."""
        self.notify(visible(text, lines=True), severity="error" if is_wrong else "information", timeout=8, markup=False)

    def has_started(self, what: str, apart: "BackgroundProcess") -> None:
        """A notice of a process that was started; and later, while this is open, of what it could not do."""

        async def hear() -> None:
            from workbench.tui.commands import complaint

            if wrong := await complaint(apart):
                self.say(f"{what}, and ended: {wrong}", is_wrong=True)

        self.say(f"{what}; what it prints goes to {apart.output}")
        self.run_worker(hear(), group="apart", exit_on_error=False)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: every key's action by name, then what Textual adds."""
        listed = {*OF_ALL_SCREENS, "command_palette"}
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

    def action_turn_theme(self) -> None:
        self.theme = THEMES[self.current_theme.dark].name

    def action_export(self) -> None:
        if (table := self._table()) is None:
            return
        try:
            paths = write_export(getattr(self.screen, "export_name", "screen"), self.export_screenshot(), table)
            self.say("written: " + ", ".join(map(str, paths)))
        except ValueError as error:
            self.say(str(error), is_wrong=True)

    def action_copy(self) -> None:
        if (table := self._table()) is None:
            return
        text = to_csv(*table, separator="\t")
        self.copy_to_clipboard(text)
        self.say(f"copied {text.count(chr(10)) - 1} rows, if this terminal lets programs copy (OSC 52)")

    def _table(self) -> Table | None:
        """The data of the screen; None where there is none, as over a question."""
        find = getattr(self.screen, "table", None)
        return find() if find else None


def show(runs_dir: Path, run: RunDirectory | None = None, study: str = "") -> None:
    """Runs the dashboard until it is left; exits with a signal's code if one ended it."""
    app = Workbench(runs_dir, run, study)
    app.run()
    if app.return_code:
        sys.exit(app.return_code)
