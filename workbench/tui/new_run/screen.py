"""The screen that starts a run: the settings of a recipe, edited and checked one by one."""

import json
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Input, Static

from workbench.errors import visible
from workbench.tui.commands import SEPARATELY, call
from workbench.tui.host import Host
from workbench.tui.keys import KeyFooter
from workbench.tui.new_run.draft import Draft, setting_help
from workbench.tui.rows import GAP, Cell, Line, Rows
from workbench.tui.text import hex_of

LEAST_NAME, MOST_NAME = 16, 40


class NewRunScreen(Screen[None]):
    """A table of settings; an edit is checked after every key."""

    DEFAULT_CSS = """
    NewRunScreen #verdict { height: 2; padding: 0 1; background: $panel; }
    NewRunScreen #verdict.-wrong { color: $error; }
    NewRunScreen #about { height: 2; padding: 0 1; color: $text-muted; }
    NewRunScreen #settings { height: 1fr; scrollbar-size-horizontal: 0; }
    NewRunScreen Input { display: none; border: none; height: 1; padding: 0 1; background: $surface; }
    NewRunScreen.-typing #value { display: block; }
    NewRunScreen.-filtering #filter { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "back", key_display="esc"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("ctrl+s,S", "start", "start", key_display="S"),
    ]
    app: Host

    def __init__(self, runs_dir: Path) -> None:
        super().__init__()
        self.draft = Draft(runs_dir)
        self._error = ""
        self._words = ""  # of the filter
        self._shown_rows: dict[str, str] = {}

    def compose(self) -> ComposeResult:
        """The summary or the error, the settings, help on the one at the cursor, and the inputs."""
        yield Static("", id="verdict", markup=False)
        yield Rows(id="settings")
        yield Static("", id="about", markup=False)
        yield Input(id="value", compact=True, select_on_focus=True)
        yield Input(id="filter", compact=True, placeholder="words in the setting's name")
        yield KeyFooter()

    def on_mount(self) -> None:
        self.query_one(Rows).focus()
        self.draw()

    def on_resize(self) -> None:
        self.draw()

    def draw(self) -> None:
        """Update the table and the summary."""
        try:
            self._shown_rows = self.draft.rows()
        except ValueError:
            self._shown_rows = {"recipe": self.draft.options.get("recipe", "")}  # the summary shows the error
        words = self._words.lower().split()
        names = [name for name in self._shown_rows if all(word in name.lower() for word in words)]
        width = max(LEAST_NAME, min(MOST_NAME, max(map(len, names), default=0), self.size.width // 2))
        color = hex_of(self.app.get_css_variables(), "accent")
        lines: dict[str, Line] = {}
        for name in names:
            own = color if self.draft.is_changed(name) else ""
            value = Cell(visible(self._shown_rows[name]), max(8, self.size.width - width - 2 * GAP - 1), own)
            lines[name] = (Cell(name, width, own), value)
        self.query_one(Rows).show(lines)
        self._check()
        self._draw_about()

    def _check(self) -> None:
        try:
            text, self._error = self.draft.summary(), ""
        except ValueError as error:
            text = self._error = str(error)
        verdict = self.query_one("#verdict", Static)
        verdict.set_class(bool(self._error), "-wrong")
        verdict.update(Text.assemble(("start a run  ", "bold"), visible(text)))

    def _draw_about(self) -> None:
        key = self.query_one(Rows).key
        self.query_one("#about", Static).update(
            Text(setting_help(key) if key else "no setting matches; esc clears the filter")
        )

    def on_rows_moved(self) -> None:
        self._draw_about()

    def on_rows_chosen(self) -> None:
        """Edit the setting at the cursor."""
        if (key := self.query_one(Rows).key) is not None:
            field = self.query_one("#value", Input)
            self.add_class("-typing")
            with field.prevent(Input.Changed):
                field.value = self._shown_rows[key]
            field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "filter":
            self._words = event.value
            self.query_one(Rows).move_to(0)
        elif (key := self.query_one(Rows).key) is not None:
            self.draft.change(key, event.value)
        self.draw()

    def on_input_submitted(self) -> None:
        self._to_rows()

    def _to_rows(self) -> None:
        self.remove_class("-typing", "-filtering")
        self.query_one(Rows).focus()

    def action_filter(self) -> None:
        self.add_class("-filtering")
        self.query_one("#filter", Input).focus()

    def action_back(self) -> None:
        if self.has_class("-typing") or self.has_class("-filtering"):
            self._to_rows()
        elif self._words:
            self.query_one("#filter", Input).value = ""
        else:
            self.app.pop_screen()

    def action_start(self) -> None:
        if self._error:
            self.app.show_notice(self._error, is_error=True)
            return
        command = self.draft.command()

        def start() -> None:
            self.app.show_notice("starting; this takes a few seconds")
            self.run_worker(self._start(command), group="start", exit_on_error=False)

        effect = f"{self.draft.summary()}, {SEPARATELY}:\n\nworkbench {' '.join(command)}"
        self.app.confirm("start this run?", effect, start)

    async def _start(self, command: list[str]) -> None:
        try:
            answer = await call(command)
            self.app.show_notice(f"{json.loads(answer)['id']} is training")
            if self.app.screen is self:
                self.app.pop_screen()
        except ValueError as error:
            self.app.show_notice(f"not started: {error}", is_error=True)
