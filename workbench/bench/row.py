"""One line of a benchmark's table, and of its JSON."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """What one case took. None where it was not measured.

    Args:
        case: what was run.
        size: how much of it; for losses, the pairs of a batch.
        time_s: seconds, of the command's ``clock``.
        peak_mb: MiB at its peak, beyond what was held before.
        ratio: how many times longer the straightforward way took, in the same run.
        floor_ratio: how many times longer it took than what no way can avoid, in the same run.
        share: its part of the whole that it belongs to.
        pairs_per_s: pairs a second.
    """

    case: str
    size: int
    time_s: float
    peak_mb: float | None = None
    ratio: float | None = None
    floor_ratio: float | None = None
    share: float | None = None
    pairs_per_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
