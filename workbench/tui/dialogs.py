"""What lies over a screen: every key of where one is, a question before something happens, and a form."""

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Button, Input, Static

from workbench.terminal import visible

ROOMY, AROUND = 30, 12  # rows of the terminal, and those around a form's fields
# What a form's fields hold -> what would happen. ValueError: what is wrong with them.
Check = Callable[[dict[str, str]], str]

OF_ALL_SCREENS = {binding.action for binding in Screen.BINDINGS if isinstance(binding, Binding)}
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


class Keys(ModalScreen[None]):
    """Every key that does something where one was."""

    DEFAULT_CSS = FRAME.format(name="Keys")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "close", show=False),
        Binding("j", "scroll(1)", "down", show=False),
        Binding("k", "scroll(-1)", "up", show=False),
    ]

    def __init__(self, of: Screen[object]) -> None:
        super().__init__()
        self._text = keys_text(of)

    def compose(self) -> ComposeResult:
        """One list in a frame."""
        with VerticalScroll(id="frame"):
            yield Static(self._text)

    def action_scroll(self, lines: int) -> None:
        self.query_one("#frame").scroll_relative(y=lines, animate=False)


def keys_text(screen: Screen[object]) -> Text:
    """The keys by where they belong: to what has the focus, to the screen, to all screens."""
    by_place: dict[str, dict[str, list[str]]] = {}
    for key, active in screen.active_bindings.items():
        if active.binding.description and active.enabled:
            place = "Workbench" if active.binding.action in OF_ALL_SCREENS else type(active.node).__name__
            shown = screen.app.get_key_display(active.binding)
            shown = shown if active.binding.key == key else key
            description = active.binding.description
            description = description.lower() if description.istitle() else description[0].lower() + description[1:]
            by_place.setdefault(place, {}).setdefault(description, []).append(shown)
    names = {"Workbench": "everywhere", "Chart": "in a chart", "Rows": "in the lines", "HomeScreen": "the runs"}
    names |= {"Heat": "in the matrices", "Reading": "in the text", "StudyScreen": "the study"}
    text = Text()
    for place, actions in sorted(by_place.items(), key=lambda item: item[0] == "Workbench"):
        text.append(f"{names.get(place, place.removesuffix('Screen').lower())}\n", "bold")
        for description, keys in actions.items():
            text.append(f"  {' or '.join(dict.fromkeys(keys))[:18]:20}{description}\n")
        text.append("\n")
    text.append("what acts on a run or a study says what will happen, and asks first; all else only looks", "italic")
    return text


class Ask(ModalScreen[bool]):
    """Says what will happen, and asks."""

    DEFAULT_CSS = FRAME.format(name="Ask")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "do it", show=False),
        Binding("n,escape", "answer(False)", "leave it", show=False),
    ]

    def __init__(self, title: str, what_happens: str) -> None:
        super().__init__()
        self._title, self._what_happens = title, what_happens

    def compose(self) -> ComposeResult:
        """The question, and two buttons; the harmless one has the focus."""
        with Vertical(id="frame"):
            yield Static(visible(self._title), id="title", markup=False)
            yield Static(self._what_happens, classes="label", markup=False)
            with Horizontal(id="buttons"):
                yield Button("do it (y)", variant="warning", id="yes", compact=True)
                yield Button("leave it (n)", id="no", compact=True)

    def on_mount(self) -> None:
        self.app.clear_notifications()  # they would lie over the buttons
        self.query_one("#no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)


class Form(ModalScreen[dict[str, str] | None]):
    """Fields to fill in; what is typed is checked at once, and what would happen is said beneath."""

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
        Binding("escape", "leave", "leave it", show=False),
        Binding("ctrl+s", "do", "do it", show=False, priority=True),
    ]

    def __init__(self, title: str, fields: dict[str, tuple[str, str]], check: Check) -> None:
        """``fields``: for each its label and what it holds at first."""
        super().__init__()
        self._title, self._fields, self._check = title, fields, check

    def compose(self) -> ComposeResult:
        """Labels, inputs, the verdict and two buttons."""
        with Vertical(id="frame"):
            yield Static(visible(self._title), id="title", markup=False)
            with VerticalScroll(id="fields", can_focus=False):
                for name, (label, value) in self._fields.items():
                    with Vertical(classes="field"):
                        yield Static(label, classes="label", markup=False)
                        yield Input(value, id=name, compact=True)
            yield Static("", id="verdict", markup=False)
            with Horizontal(id="buttons"):
                yield Button("do it (ctrl+s)", variant="warning", id="yes", compact=True)
                yield Button("leave it (esc)", id="no", compact=True)

    def on_mount(self) -> None:
        self.app.clear_notifications()
        self.query(Input).first().focus(scroll_visible=False)
        self.judge()

    def on_resize(self) -> None:
        """Where there is little room, it goes to the fields."""
        self.set_class(self.size.height < ROOMY, "-dense")
        self.query_one("#fields").styles.max_height = max(2, self.size.height - AROUND)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """A field is seen with its label."""
        if isinstance(field := event.widget.parent, Vertical) and field.has_class("field"):
            self.call_after_refresh(field.scroll_visible, animate=False)

    @property
    def filled(self) -> dict[str, str]:
        """What the fields hold."""
        return {str(field.id): field.value.strip() for field in self.query(Input)}

    def judge(self) -> None:
        """Says what would happen, or what is wrong."""
        try:
            verdict, is_wrong = self._check(self.filled), False
        except ValueError as error:
            verdict, is_wrong = str(error), True
        label = self.query_one("#verdict", Static)
        label.update(Text(visible(verdict)))
        label.set_class(is_wrong, "-wrong")
        self.query_one("#yes", Button).disabled = is_wrong

    def on_input_changed(self) -> None:
        self.judge()

    def on_input_submitted(self) -> None:
        self.action_do()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "yes":
            self.action_do()
        else:
            self.dismiss(None)

    def action_do(self) -> None:
        self.judge()
        if not self.query_one("#yes", Button).disabled:
            self.dismiss(self.filled)

    def action_leave(self) -> None:
        self.dismiss(None)
