"""Seconds, bytes and times of day as people say them."""

from datetime import datetime


def duration(seconds: float) -> str:
    """Such as 12 s, 3.5 min, 2.1 h, 4.0 days."""
    for unit, length_s in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s or (unit != "days" and seconds >= length_s):
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:.0f} s"


def rate(per_s: float, what: str = "pairs") -> str:
    """Such as 1,234 pairs/s, 5.2 pairs/s, 0.43 pairs/s."""
    digits = 0 if per_s >= 9.95 else 1 if per_s >= 0.995 else 2
    return f"{per_s:,.{digits}f} {what}/s"


def clock(time_s: float, form: str = "%H:%M:%S") -> str:
    """A time since the epoch as the local time of day; dashes for one that is no date."""
    try:
        return datetime.fromtimestamp(time_s).strftime(form)
    except (OverflowError, OSError, ValueError):
        return "--:--:--"


def size(num_bytes: float) -> str:
    """Such as 512 bytes, 12 kB, 3.5 MB, 1.2 GB; powers of ten, as disks are sold."""
    for unit, unit_bytes in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= 0.9995 * unit_bytes:
            value = num_bytes / unit_bytes
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:,.0f} {unit}"
    return f"{num_bytes:.0f} bytes"
