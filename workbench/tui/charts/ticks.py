"""Round numbers along an axis."""

import math

from workbench.views.units import duration

Range = tuple[float, float]


def ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from ``low`` to ``high``, evenly apart.

    At most ``most``; one or two more where there would be fewer than two else.
    """
    if not high > low or most < 1:
        return []
    raw = (high - low) / most
    if not 1e-300 < raw < 1e300:
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    finer: list[float] = []
    for factor in (0.5, 1, 2, 5, 10, 20):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first > most + 1:
            continue  # far too many
        found = [index * step for index in range(first, last + 1)]
        if len(found) <= most:
            return finer if len(found) < 2 and finer else found
        finer = found
    return finer


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten from ``low`` to ``high`` (both above 0); where there are few, their 2- and 5-fold too.

    A range within which there are no two of these has the ticks of an even axis.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1,)):
        found = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        found = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if 2 <= len(found) <= most:
            return found
    if len(found) < 2:
        return [value for value in ticks(low, high, most) if value > 0]
    return found[:: math.ceil(len(found) / most)]


def tick_text(value: float) -> str:
    """A tick's number, short: such as 0.5, 1,200, 20k, 3M, 1e-05."""
    size = abs(value)
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= 10 * unit or (size >= unit and name != "k"):
            return f"{value / unit:.4g}{name}".replace("-", "\N{MINUS SIGN}")
    text = f"{value:,.0f}" if size >= 1000 else f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


def time_text(seconds: float) -> str:
    """A tick on an axis of seconds."""
    return duration(seconds) if seconds else "0"


def with_room(low: float, high: float, *, is_log: bool) -> Range:
    """The range an axis shows for values from ``low`` to ``high``: a little more, and never nothing."""
    if is_log:
        spread = math.log(high / low)
        factor = math.exp(0.04 * spread) if spread > 1e-6 else 1.1
        return low / factor, high * factor
    room = 0.04 * (high - low) or 0.05 * abs(high) or 0.5
    return low - room, high + room
