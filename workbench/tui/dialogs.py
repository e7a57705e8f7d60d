"""Dialogs over a screen: a confirmation, and a form whose fields are checked while they are filled in."""

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from workbench.errors import visible

ROOMY, AROUND = 30, 12  # rows of the terminal, and those around a form's fields
# Takes the values of a form's fields by name; returns a summary of what submitting does. Raises ValueError if invalid.
Check = Callable[[dict[str, str]], str]
Fields = dict[str, tuple[str, str]]  # a field's name -> its label and initial value

FRAME = """
{name} {{ align: center middle; }}
{name} > #frame {{
    width: 76; max-width: 96%; height: auto; max-height: 94%; padding: 0 2;
    background: $surface; border: round $primary;
}}
{name} #title {{ text-style: bold; }}
{name} .label {{ color: $text-muted; margin-top: 1; }}
{name} #buttons {{ height: auto; margin-top: 1; align-horizontal: right; }}
{name} Button {{ margin-left: 2; }}
"""


class Confirm(ModalScreen[bool]):
    """Asks for confirmation; the result is True for "Confirm"."""

    DEFAULT_CSS = FRAME.format(name="Confirm")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "confirm", show=False),
        Binding("n,escape", "answer(False)", "cancel", show=False),
    ]

    def __init__(self, title: str, effect: str) -> None:
        super().__init__()
        self._title, self._effect = title, effect

    def compose(self) -> ComposeResult:
        """The question and two buttons; "Cancel" has the focus."""
        with Vertical(id="frame"):
            yield Static(visible(self._title), id="title", markup=False)
            yield Static(self._effect, classes="label", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Confirm (y)", variant="warning", id="yes", compact=True)
                yield Button("Cancel (n)", id="no", compact=True)

    def on_mount(self) -> None:
        self.app.clear_notifications()  # they would cover the buttons
        self.query_one("#no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)


class Form(ModalScreen[dict[str, str] | None]):
    """Input fields, checked after every key; the result is their values by name, or None if canceled."""

    DEFAULT_CSS = (
        FRAME.format(name="Form")
        + """
Form #fields { height: auto; max-height: 60vh; }
Form .field { height: auto; }
Form Input { border: none; height: 1; padding: 0 1; background: $panel; }
Form.-dense .label { margin-top: 0; }
Form #verdict { margin-top: 1; max-height: 6; }
Form #verdict.-wrong { color: $error; }
"""
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel", show=False),
        Binding("ctrl+s", "submit", "confirm", show=False, priority=True),
    ]

    def __init__(self, title: str, fields: Fields, check: Check) -> None:
        super().__init__()
        self._title, self._fields, self._check = title, fields, check

    def compose(self) -> ComposeResult:
        """Labels, inputs, the result of the check and two buttons."""
        with Vertical(id="frame"):
            yield Static(visible(self._title), id="title", markup=False)
            with VerticalScroll(id="fields", can_focus=False):
                for name, (label, value) in self._fields.items():
                    with Vertical(classes="field"):
                        yield Static(label, classes="label", markup=False)
                        yield Input(value, id=name, compact=True)
            yield Static("", id="verdict", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Confirm (ctrl+s)", variant="warning", id="yes", compact=True)
                yield Button("Cancel (esc)", id="no", compact=True)

    def on_mount(self) -> None:
        self.app.clear_notifications()
        self.query(Input).first().focus(scroll_visible=False)
        self.run_check()

    def on_resize(self) -> None:
        """In a small terminal the fields get all the space that is left."""
        self.set_class(self.size.height < ROOMY, "-dense")
        self.query_one("#fields").styles.max_height = max(2, self.size.height - AROUND)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Scroll so that the label of the focused field is visible too."""
        if isinstance(field := event.widget.parent, Vertical) and field.has_class("field"):
            self.call_after_refresh(field.scroll_visible, animate=False)

    @property
    def filled(self) -> dict[str, str]:
        """The fields' values by name."""
        return {str(field.id): field.value.strip() for field in self.query(Input)}

    def run_check(self) -> None:
        """Show what submitting does, or the error."""
        try:
            verdict, is_error = self._check(self.filled), False
        except ValueError as error:
            verdict, is_error = str(error), True
        label = self.query_one("#verdict", Static)
        label.update(Text(visible(verdict)))
        label.set_class(is_error, "-wrong")
        self.query_one("#yes", Button).disabled = is_error

    def on_input_changed(self) -> None:
        self.run_check()

    def on_input_submitted(self) -> None:
        self.action_submit()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "yes":
            self.action_submit()
        else:
            self.dismiss(None)

    def action_submit(self) -> None:
        self.run_check()
        if not self.query_one("#yes", Button).disabled:
            self.dismiss(self.filled)

    def action_cancel(self) -> None:
        self.dismiss(None)
