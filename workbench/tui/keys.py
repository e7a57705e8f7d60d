"""The keys of a screen: the footer, and the list of all keys under ``?``."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Static
from textual.widgets._footer import FooterKey

from workbench.tui.dialogs import FRAME

DOCKED = "-command-palette"  # Textual's class for a key that stays at the right
GLOBAL_ACTIONS = {binding.action for binding in Screen.BINDINGS if isinstance(binding, Binding)}
HEADINGS = {
    "Workbench": "everywhere",
    "Chart": "in a chart",
    "Rows": "in the table",
    "Heat": "in the matrices",
    "Reading": "in the text",
    "HomeScreen": "the runs",
    "NewRunScreen": "new run",
    "StudyScreen": "the study",
}


class KeyFooter(Footer):
    """The keys that apply at the focus. ``?`` stays visible however narrow the terminal is."""

    def __init__(self) -> None:
        super().__init__(show_command_palette=False)

    def compose(self) -> ComposeResult:
        """The keys of the screen and of the focused widget."""
        for widget in super().compose():
            if isinstance(widget, FooterKey) and widget.key == "question_mark":
                widget.add_class(DOCKED)
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
        """A scrollable list."""
        with VerticalScroll(id="frame"):
            yield Static(self._text)

    def action_scroll(self, lines: int) -> None:
        self.query_one("#frame").scroll_relative(y=lines, animate=False)


def keys_text(screen: Screen[object]) -> Text:
    """The active keys, grouped by the widget, the screen or the application that handles them."""
    by_owner: dict[str, dict[str, list[str]]] = {}
    for key, active in screen.active_bindings.items():
        if active.binding.description and active.enabled:
            owner = "Workbench" if active.binding.action in GLOBAL_ACTIONS else type(active.node).__name__
            shown = screen.app.get_key_display(active.binding)
            shown = shown if active.binding.key == key else key
            description = active.binding.description
            # Textual's own descriptions are in title case.
            description = description.lower() if description.istitle() else description[0].lower() + description[1:]
            by_owner.setdefault(owner, {}).setdefault(description, []).append(shown)
    text = Text()
    for owner, actions in sorted(by_owner.items(), key=lambda item: item[0] == "Workbench"):
        text.append(f"{HEADINGS.get(owner, owner.removesuffix('Screen').lower())}\n", "bold")
        for description, keys in actions.items():
            text.append(f"  {' or '.join(dict.fromkeys(keys))[:18]:20}{description}\n")
        text.append("\n")
    text.append("keys that change a run or a study ask for confirmation first; all others only display", "italic")
    return text
