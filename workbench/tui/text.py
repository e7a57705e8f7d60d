"""Text that all screens share: a run's state, progress bars, sparklines, numbers and tables."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from workbench.errors import visible
from workbench.formatting import duration
from workbench.runs.liveness import SILENT_AFTER_S, RunStatus

Table = tuple[Sequence[str], Iterable[Sequence[str]]]  # the data of a screen to export or copy: headings, rows
COLUMN_GAP = 2  # cells
NOTHING = "\N{EN DASH}"
QUIET_AFTER_S = 15.0  # at least: a run that logs every second is not silent after three
BLOCKS = "▁▂▃▄▅▆▇█"
NUMBER = re.compile(r"[+\N{MINUS SIGN}-]?[\d,]*\.?\d+(e[+\N{MINUS SIGN}-]?\d+)?( ?%)?( \(.*\))?")
BAR = " ▏▎▍▌▋▊▉█"
COLORS = {
    "running": "success",
    "new": "primary",
    "paused": "warning",
    "silent": "warning",
    "dead": "error",
    "diverged": "error",
    "failed": "error",
    "stopped": "warning",
    "interrupted": "warning",
}
SORTS_FIRST = ("running", "paused", "silent", "new")


def is_quiet(status: RunStatus, log_every_s: float | None) -> bool:
    """Whether a live run has logged nothing for three times its last logging interval.

    An evaluation logs nothing until it ends, so it counts as silent only after ``SILENT_AFTER_S``.
    """
    if status.state == "silent":
        return True
    usual_s = SILENT_AFTER_S if status.evaluating else max(QUIET_AFTER_S, 3 * (log_every_s or 0.0))
    return status.state == "running" and status.quiet_s is not None and status.quiet_s > usual_s


def state_text(status: RunStatus | None, *, is_quiet: bool) -> str:
    """The state in a word or two, with the time since the last event for a silent run."""
    if status is None:
        return "loading"
    if is_quiet and status.quiet_s is not None:
        return f"silent {duration(status.quiet_s)}"
    if status.evaluating:
        return "evaluating"
    return status.state


def state_color(status: RunStatus | None, *, is_quiet: bool) -> str:
    """The theme's color name for a state; empty for the default color."""
    if status is None:
        return ""
    return "warning" if is_quiet else COLORS.get(status.state, "")


def bar(share: float, width: int) -> str:
    """A bar of ``width`` cells, in eighths of a cell."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (BAR[rest] if rest else "")).ljust(width)


def sparkline(values: list[float], width: int, scale: tuple[float, float]) -> str:
    """The last ``width`` values as blocks on a scale from its least to its greatest value; ``×`` if not finite."""
    shown = values[-width:]
    low, high = scale
    span = high - low

    def block(value: float) -> str:
        if not math.isfinite(value):
            return "×"
        return BLOCKS[min(7, max(0, round((value - low) / span * 7)))] if span > 0 else BLOCKS[3]

    return "".join(map(block, shown))


def number(value: float | None, digits: int = 4) -> str:
    """A number with about ``digits`` significant digits and a minus sign (not a hyphen); ``nan`` and ``inf`` as is."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return str(value).replace("-", "\N{MINUS SIGN}")
    if value and not 1e-4 <= abs(value) < 1e6:
        text = f"{value:.{digits - 2}e}"
    elif abs(value) >= 10 ** (digits - 1):
        text = f"{value:,.0f}"
    else:
        text = f"{value:.{digits}g}"
    return text.replace("-", "\N{MINUS SIGN}")


def decimal(value: float | None) -> str:
    """A number with three decimals, so that a column of them is aligned at the point; very small ones as an exponent.

    >>> decimal(0.8388), decimal(12.5), decimal(2e-5)
    ('0.839', '12.500', '2.00e−05')
    """
    if value is None or not math.isfinite(value) or (value and not 5e-4 <= abs(value) < 1e6):
        return number(value)
    return f"{value:,.3f}".replace("-", "\N{MINUS SIGN}")


def hex_of(colors: Mapping[str, str], name: str) -> str:
    """A theme's color as ``#rrggbb``; empty if it is not given in hex."""
    color = colors.get(name, "")
    return color[:7] if color.startswith("#") else ""


def _is_number(cell: str) -> bool:
    """Whether a cell is empty, a dash, or starts as a number does and has no letters but those of exponents."""
    return cell in ("", NOTHING) or bool(NUMBER.fullmatch(cell))


def columns_text(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Text:
    """A table in aligned columns, numbers to the right. Wider than ``width``, each row becomes a list of its cells."""
    clean = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(headings, *clean, strict=True)]
    text = Text()
    if not rows:
        return text
    if sum(widths) + COLUMN_GAP * len(widths) <= width:
        are_numbers = [all(map(_is_number, column)) for column in zip(*clean, strict=True)]
        for place, line in enumerate([list(headings), *clean]):
            cells = [
                cell.rjust(size) if is_number else set_cell_size(cell, size)
                for cell, size, is_number in zip(line, widths, are_numbers, strict=True)
            ]
            text.append((" " * COLUMN_GAP).join(cells).rstrip() + "\n", "" if place else "dim")
        return text
    for name, *values in clean:
        text.append(f"{name}\n")
        for letter, value in zip(headings[1:], values, strict=True):
            text.append(f"  {letter} ", "dim")
            text.append(f"{value or NOTHING}\n")
    return text


def shortest(names: Sequence[str]) -> dict[str, str]:
    """The shortest ends of dotted names that differ from one another: ``fd.weight`` beside ``icl.weight``."""
    found: dict[str, str] = {}
    for name in names:
        parts = name.split(".")
        # The weight of which loss is worth the room, even where no other weight is shown.
        most = max(0, len(parts) - (2 if len(parts) > 2 else 1))
        for start in reversed(range(most + 1)):
            short = ".".join(parts[start:])
            if sum(other == short or other.endswith(f".{short}") for other in names) == 1:
                break
        found[name] = short
    return found
