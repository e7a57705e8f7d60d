"""The keys at the foot of a screen."""

from textual.app import ComposeResult
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

DOCKED = "-command-palette"  # Textual's class for a key that stays at the right


class Foot(Footer):
    """What can be done where one is; the key that shows all keys stays in sight however narrow the terminal is."""

    def __init__(self) -> None:
        super().__init__(show_command_palette=False)

    def compose(self) -> ComposeResult:
        """The keys of the screen and of what has the focus."""
        for widget in super().compose():
            if isinstance(widget, FooterKey) and widget.key == "question_mark":
                widget.add_class(DOCKED)
            yield widget
