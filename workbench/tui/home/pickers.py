"""What one types and picks on the first screen: a query that completes itself, the columns, and named views."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.suggester import Suggester
from textual.widgets import Input, OptionList, SelectionList, Static
from textual.widgets.option_list import Option
from textual.widgets.selection_list import Selection

from workbench.errors import visible
from workbench.tui.dialogs import FRAME

Complete = Callable[[str], list[str]]  # the words that complete the last one of a text, best first


class _Ghost(Suggester):
    """Shows the best completion behind the cursor, where it continues what was typed."""

    def __init__(self, complete: Complete) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._complete = complete

    async def get_suggestion(self, value: str) -> str | None:
        last = value.rsplit(" ", maxsplit=1)[-1]
        continuing = (word for word in self._complete(value) if word.startswith(last))
        return next((value.removesuffix(last) + word for word in continuing), None)


class QueryInput(Input):
    """A line for a query; Tab completes its last word."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("tab", "complete", "complete", show=False)]

    def __init__(self, complete: Complete, id: str) -> None:
        super().__init__(
            placeholder="words, or name>value such as state:finished i2t_r1>10; tab completes",
            id=id,
            compact=True,
            select_on_focus=False,
            suggester=_Ghost(complete),
        )
        self._complete = complete

    def action_complete(self) -> None:
        last = self.value.split(" ")[-1]
        if words := self._complete(self.value):
            self.value = self.value.removesuffix(last) + words[0]
            self.cursor_position = len(self.value)


class ColumnPicker(ModalScreen[list[str] | None]):
    """Fields, metrics and settings to show as columns; the result is what is picked, in that order."""

    DEFAULT_CSS = (
        FRAME.format(name="ColumnPicker")
        + """
ColumnPicker SelectionList { height: auto; max-height: 70vh; border: none; background: $surface; padding: 0; }
"""
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "cancel", show=False),
        Binding("enter", "accept", "show these columns", show=False, priority=True),
        Binding("j", "move(1)", "down", show=False),
        Binding("k", "move(-1)", "up", show=False),
        Binding("backspace", "none", "none", show=False),
    ]

    def __init__(self, groups: Mapping[str, Sequence[str]], picked: Sequence[str]) -> None:
        super().__init__()
        self._groups, self._picked = groups, picked

    def compose(self) -> ComposeResult:
        with Vertical(id="frame"):
            yield Static("columns", id="title")
            yield Static("space picks, enter shows, backspace picks none, esc cancels", classes="label")
            yield SelectionList(
                *(
                    Selection(Text.assemble(visible(name), (f"  {group}", "dim")), name, name in self._picked)
                    for group, names in self._groups.items()
                    for name in names
                )
            )

    def on_mount(self) -> None:
        self.query_one(SelectionList).focus()

    def action_move(self, by: int) -> None:
        chosen = self.query_one(SelectionList)
        (chosen.action_cursor_down if by > 0 else chosen.action_cursor_up)()

    def action_none(self) -> None:
        self.query_one(SelectionList).deselect_all()

    def action_accept(self) -> None:
        picked = set(self.query_one(SelectionList).selected)
        kept = [name for name in self._picked if name in picked]
        every = (name for names in self._groups.values() for name in names)
        self.dismiss([*kept, *(name for name in every if name in picked and name not in kept)])


class ViewPicker(ModalScreen[tuple[str, str] | None]):
    """The named views of a folder; the result is what to do ("show", "save" or "forget") and a view's name."""

    DEFAULT_CSS = (
        FRAME.format(name="ViewPicker")
        + """
ViewPicker OptionList { height: auto; max-height: 50vh; border: none; background: $surface; padding: 0; }
ViewPicker Input { border: none; height: 1; padding: 0 1; background: $panel; }
"""
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "cancel", show=False),
        Binding("delete,D", "forget", "delete the view", show=False),
    ]

    def __init__(self, views: Mapping[str, str]) -> None:
        """``views`` are descriptions by name."""
        super().__init__()
        self._views = views

    def compose(self) -> ComposeResult:
        with Vertical(id="frame"):
            yield Static("views of this folder", id="title")
            yield Static("enter shows a view, D deletes it, tab goes on to the name of a new one", classes="label")
            yield OptionList(
                *(
                    Option(Text.assemble((visible(name), "bold"), f"  {visible(about)}"), id=name)
                    for name, about in self._views.items()
                )
            )
            yield Static("save what is shown as", classes="label")
            yield Input(compact=True)

    def on_mount(self) -> None:
        self.query_one(OptionList if self._views else Input).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(("show", str(event.option.id)))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if name := event.value.strip():
            self.dismiss(("save", name))

    def action_forget(self) -> None:
        views = self.query_one(OptionList)
        if views.highlighted is not None:
            self.dismiss(("forget", str(views.get_option_at_index(views.highlighted).id)))
