"""Text that repaints only when it changes."""

from textual.visual import VisualType
from textual.widgets import Static


class Label(Static):
    """Text that is drawn again only if it changes, so that a screen on which nothing happens sends nothing."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__("", id=id, classes=classes, markup=False)
        self._shown: VisualType = ""

    def update(self, content: VisualType = "", *, layout: bool = True) -> None:
        if content != self._shown:
            self._shown = content
            super().update(content, layout=layout)
