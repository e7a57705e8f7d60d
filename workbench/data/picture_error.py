"""Why a picture cannot be used: a reason that can be counted, and a line that names the picture."""

from typing import Literal

Reason = Literal[
    "missing file", "unreadable file", "empty file", "no JPEG, PNG or WebP", "too many pixels", "cut short or damaged"
]


class PictureError(ValueError):
    """One picture cannot be read or decoded; the others may be sound."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self._message = message

    def __str__(self) -> str:
        return self._message

    def at(self, place: str) -> "PictureError":
        """The same error, with where the picture lies in front of its line."""
        return PictureError(self.reason, f"{place}: {self._message}")
