"""Names in little room, such that one can still be told from another."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

ENDS = "-_ .=/"  # a name is cut after one of these, not within a word


def shortened(text: str, width: int) -> str:
    """A name in at most ``width`` cells, without some of its middle: names of one study differ at their ends."""
    if cell_len(text) <= width or width < 4:
        return text
    tail = text[-(width // 2) :]
    while cell_len(tail) > width // 2:
        tail = tail[1:]
    return set_cell_size(text, width - 1 - cell_len(tail)) + "…" + tail


def told_apart(names: Sequence[str], width: int) -> list[str]:
    """The names in at most ``width`` cells each; where one is too long, all are without what they have in common.

    What is then still too long is shortened in its middle.
    """
    if all(cell_len(name) <= width for name in names):
        return list(names)
    num_common = _num_common(names) if len(names) > 1 else 0
    return [shortened("\N{HORIZONTAL ELLIPSIS}" + name[num_common:] if num_common else name, width) for name in names]


def _num_common(names: Sequence[str]) -> int:
    """How many characters all names begin with, up to the end of a word."""
    columns = enumerate(zip(*names, strict=False))
    num_equal = next((place for place, column in columns if len(set(column)) > 1), min(map(len, names)))
    return max(names[0].rfind(end, 0, num_equal) + 1 for end in ENDS)
