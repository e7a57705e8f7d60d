"""How a run's state, progress and numbers are said, in the same words on every screen."""

import math
from typing import Literal

from workbench.formatting import duration
from workbench.runs.liveness import SILENT_AFTER_S, RunStatus

# What a chart counts from left to right; apart from the plots, which need numpy.

Axis = Literal["step", "time"]


NOTHING = "\N{EN DASH}"
QUIET_AFTER_S = 15.0  # at the least: a run that logs every second is not silent after three
BLOCKS = "▁▂▃▄▅▆▇█"
BAR = " ▏▎▍▌▋▊▉█"
TONES = {
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
    """Whether a live run has said nothing for three times as long as it took between its last two lines.

    An evaluation says nothing until it is done, and counts as silent only after ten minutes.
    """
    if status.state == "silent":
        return True
    usual_s = SILENT_AFTER_S if status.evaluating else max(QUIET_AFTER_S, 3 * (log_every_s or 0.0))
    return status.state == "running" and status.quiet_s is not None and status.quiet_s > usual_s


def state_text(status: RunStatus | None, *, is_quiet: bool) -> str:
    """The state in a word or two: what is known, and for how long nothing was heard of a live run."""
    if status is None:
        return "being read"
    if is_quiet and status.quiet_s is not None:
        return f"silent {duration(status.quiet_s)}"
    if status.evaluating:
        return "evaluating"
    return "died" if status.state == "dead" else status.state


def tone(status: RunStatus | None, *, is_quiet: bool) -> str:
    """The theme's colour for a state, beside the word that says it; empty for the usual one."""
    if status is None:
        return ""
    return "warning" if is_quiet else TONES.get(status.state, "")


def bar(share: float, width: int) -> str:
    """A bar of ``width`` cells, by eighths."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (BAR[rest] if rest else "")).ljust(width)


def sparkline(values: list[float], width: int) -> str:
    """The last ``width`` values as blocks between their least and greatest; ``×`` for one that is not finite."""
    shown = values[-width:]
    finite = [value for value in shown if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    span = high - low

    def block(value: float) -> str:
        if not math.isfinite(value):
            return "×"
        return BLOCKS[round((value - low) / span * 7)] if span > 0 else BLOCKS[3]

    return "".join(map(block, shown))


def number(value: float | None, digits: int = 4) -> str:
    """A measured number in about ``digits`` digits, with a true minus sign; ``nan`` and ``inf`` as they are."""
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


def hex_of(colors: dict[str, str], name: str) -> str:
    """A theme's colour as a hex number; empty for one that is not plain."""
    colour = colors.get(name, "")
    return colour[:7] if colour.startswith("#") else ""
