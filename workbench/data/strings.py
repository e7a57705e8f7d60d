"""Many short texts in little memory."""

from array import array


class Strings:
    """A list of byte strings, kept end to end with 8 bytes each for where it ends.

    As Python strings they would take 50 bytes each beyond their letters, and every process that decodes would come to
    hold a copy of its own.
    """

    def __init__(self) -> None:
        self._content = bytearray()
        self._ends = array("q", [0])

    def append(self, text: bytes) -> None:
        """Adds one at the end."""
        self._content += text
        self._ends.append(len(self._content))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> bytes:
        return bytes(self._content[self._ends[index] : self._ends[index + 1]])

    def joined(self) -> bytes:
        """All of them as one byte string, which no other list of as many has."""
        return self._ends.tobytes() + self._content
