"""One line of a benchmark's table, and of its JSON."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """What one case took. None where it was not measured.

    Args:
        case: what was run.
        size: how much of it; for losses, the pairs of a batch.
        time_s: seconds.
        peak_mb: MiB at its peak, beyond what was held before.
        ratio: how many times longer the straightforward way took, in the same run.
        floor_ratio: how many times longer it took than what no way can avoid, in the same run.
    """

    case: str
    size: int
    time_s: float
    peak_mb: float | None
    ratio: float | None
    floor_ratio: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
