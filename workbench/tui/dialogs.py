"""Dialogs over a screen (a confirmation, a form that is checked while it is filled in, all keys) and the footer."""

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Button, Footer, Input, Static
from textual.widgets._footer import FooterKey

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


def _buttons(confirm_key: str, cancel_key: str) -> ComposeResult:
    with Horizontal(id="buttons"):
        yield Button(f"Confirm ({confirm_key})", variant="warning", id="yes", compact=True)
        yield Button(f"Cancel ({cancel_key})", id="no", compact=True)


class Confirm(ModalScreen[bool]):
    """Asks for confirmation; the result is True for "Confirm"."""

    DEFAULT_CSS = FRAME.format(name="Confirm")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "confirm", show=False),
        Binding("n,escape", "dismiss(False)", "cancel", show=False),
    ]

    def __init__(self, title: str, effect: str) -> None:
        super().__init__()
        self._title, self._effect = title, effect

    def compose(self) -> ComposeResult:
        with Vertical(id="frame"):
            yield Static(visible(self._title), id="title", markup=False)
            yield Static(self._effect, classes="label", markup=False)
            yield from _buttons("y", "n")

    def on_mount(self) -> None:
        self.app.clear_notifications()  # they would cover the buttons
        self.query_one("#no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")


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
        Binding("escape", "dismiss(None)", "cancel", show=False),
        Binding("ctrl+s", "submit", "confirm", show=False, priority=True),
    ]

    def __init__(self, title: str, fields: Fields, check: Check) -> None:
        super().__init__()
        self._title, self._fields, self._check = title, fields, check
        self._is_touched = False  # nothing is wrong with what nobody has filled in yet

    def compose(self) -> ComposeResult:
        with Vertical(id="frame"):
            yield Static(visible(self._title), id="title", markup=False)
            with VerticalScroll(id="fields", can_focus=False):
                for label, value in self._fields.values():
                    with Vertical(classes="field"):
                        yield Static(label, classes="label", markup=False)
                        yield Input(value, compact=True)
            yield Static("", id="verdict", markup=False)
            yield from _buttons("ctrl+s", "esc")

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
        return dict(zip(self._fields, (field.value.strip() for field in self.query(Input)), strict=True))

    def run_check(self) -> None:
        """Show what submitting does, or the error."""
        try:
            verdict, is_error = self._check(self.filled), False
        except ValueError as error:
            verdict, is_error = str(error), True
        label = self.query_one("#verdict", Static)
        label.update(Text(visible(verdict)))
        label.set_class(is_error and self._is_touched, "-wrong")
        self.query_one("#yes", Button).disabled = is_error

    def on_input_changed(self) -> None:
        self._is_touched = self._is_touched or self.filled != {name: text for name, (_, text) in self._fields.items()}
        self.run_check()

    def on_input_submitted(self) -> None:
        self.action_submit()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "yes":
            self.action_submit()
        else:
            self.dismiss(None)

    def action_submit(self) -> None:
        self._is_touched = True
        self.run_check()
        if not self.query_one("#yes", Button).disabled:
            self.dismiss(self.filled)


GLOBAL_ACTIONS = {binding.action for binding in Screen.BINDINGS if isinstance(binding, Binding)}
HEADINGS = {
    "Workbench": "everywhere",
    "Chart": "in a chart",
    "Rows": "in the table",
    "Heat": "in the matrices",
    "AffinityPane": "in the matrices",
    "Reading": "in the text",
    "HomeScreen": "the runs",
    "NewRunScreen": "new run",
    "StudyScreen": "the study",
    "WorkspaceScreen": "the workspace",
}


class KeyFooter(Footer):
    """The keys that apply at the focus. ``?`` stays visible however narrow the terminal is."""

    def __init__(self) -> None:
        super().__init__(show_command_palette=False)

    def compose(self) -> ComposeResult:
        for widget in super().compose():
            if isinstance(widget, FooterKey) and widget.key == "question_mark":
                widget.add_class("-command-palette")  # Textual's class for a key that stays at the right
            yield widget


class Keys(ModalScreen[None]):
    """Every key that is active on the screen below."""

    DEFAULT_CSS = FRAME.format(name="Keys")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "close", show=False),
        Binding("j", "scroll(1)", "down", show=False),
        Binding("k", "scroll(-1)", "up", show=False),
    ]

    def __init__(self, screen: Screen[object]) -> None:
        super().__init__()
        self._text = keys_text(screen)

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="frame"):
            yield Static(self._text)

    def action_scroll(self, lines: int) -> None:
        self.query_one("#frame").scroll_relative(y=lines, animate=False)


def keys_text(screen: Screen[object]) -> Text:
    """The active keys, grouped by where they apply: in the focused widget, on the screen, everywhere."""
    by_heading: dict[str, dict[str, list[str]]] = {}
    for key, active in screen.active_bindings.items():
        if active.binding.description and active.enabled:
            owner = "Workbench" if active.binding.action in GLOBAL_ACTIONS else type(active.node).__name__
            heading = HEADINGS.get(owner, owner.removesuffix("Screen").lower())
            shown = screen.app.get_key_display(active.binding) if active.binding.key == key else key
            description = active.binding.description
            # Textual's own descriptions are in title case.
            description = description.lower() if description.istitle() else description[0].lower() + description[1:]
            by_heading.setdefault(heading, {}).setdefault(description, []).append(shown)
    text = Text()
    for heading, actions in sorted(by_heading.items(), key=lambda item: item[0] == HEADINGS["Workbench"]):
        text.append(f"{heading}\n", "bold")
        for description, keys in actions.items():
            text.append(f"  {' or '.join(dict.fromkeys(keys))[:18]:20}{description}\n")
        text.append("\n")
    text.append("keys that change a run or a study ask for confirmation first; all others only display", "italic")
    return text
