"""Errors for people: one line, with the nearest right name as the remedy."""

import difflib
from collections.abc import Iterable

from workbench.documents import shortened
from workbench.terminal import visible

# Errors about a name that does not exist, with the nearest one that does.

MAX_LISTED = 20
MAX_SHOWN = 300  # characters of what was asked for: a path may be long, a value of megabytes is cut


def unknown(kind: str, name: str, choices: Iterable[str]) -> ValueError:
    """The error for an unknown ``name``: offers the nearest choice, else lists them.

    >>> unknown("loss", "icll", ["icl", "fd"])
    ValueError("unknown loss 'icll': did you mean 'icl'?")
    """
    name, known = shortened(name, MAX_SHOWN), sorted(map(visible, choices))
    close = difflib.get_close_matches(name, known, n=1)
    listed = ", ".join(known[:MAX_LISTED]) + (", ..." if len(known) > MAX_LISTED else "")
    remedy = f"did you mean '{close[0]}'?" if close else f"choose one of: {listed}"
    return ValueError(f"unknown {kind} '{visible(name)}': {remedy}")


# What another library's error says, short enough for a line of our own.


def reason(error: BaseException) -> str:
    """The first line of the error's message; its type where it has none, or where the message alone is a key."""
    lines = str(error).splitlines()
    if not lines or isinstance(error, KeyError):
        return " ".join([type(error).__name__, *lines[:1]])
    return lines[0]
