"""Error messages of one line: unknown names with the nearest match, and the reason of another library's error."""

import difflib
from collections.abc import Iterable

from workbench.documents import truncated
from workbench.terminal import visible

MAX_LISTED = 20
MAX_SHOWN = 300  # characters of the unknown name: long enough for a path


def unknown(kind: str, name: str, choices: Iterable[str]) -> ValueError:
    """The error for an unknown ``name``: suggests the nearest choice, or lists all.

    >>> unknown("loss", "icll", ["icl", "fd"])
    ValueError("unknown loss 'icll': did you mean 'icl'?")
    """
    name, known = truncated(name, MAX_SHOWN), sorted(map(visible, choices))
    close = difflib.get_close_matches(name, known, n=1)
    listed = ", ".join(known[:MAX_LISTED]) + (", ..." if len(known) > MAX_LISTED else "")
    remedy = f"did you mean '{close[0]}'?" if close else f"choose one of: {listed}"
    return ValueError(f"unknown {kind} '{visible(name)}': {remedy}")


def reason(error: BaseException) -> str:
    """The first line of an error's message; its type if it has none. A KeyError's message is only the key."""
    lines = str(error).splitlines()
    if not lines or isinstance(error, KeyError):
        return " ".join([type(error).__name__, *lines[:1]])
    return lines[0]
