"""Two choices among the same parts -> how much of the one the other shares, beside what chance would."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.config.shape import TowerShape
    from workbench.runs.mask_snapshots import Kept

Numbers = tuple[int, ...]


@dataclass(frozen=True)
class Overlap:
    """How much of one choice another shares: 1 is all of it."""

    shared: float
    chance: float  # what a random choice of as many in each layer would share on average


def overlap(layers: Iterable[tuple[Numbers, Numbers, int]]) -> Overlap:
    """From what the one and the other keep of each layer's parts, and how many those are; 1 of a choice of nothing."""
    kept = shared = 0
    chance = 0.0
    for one, other, available in layers:
        kept += len(one)
        shared += len(set(one) & set(other))
        chance += len(one) * len(other) / available if available else 0
    return Overlap(shared / kept, chance / kept) if kept else Overlap(1.0, 1.0)


def tower_overlaps(one: "Kept", other: "Kept", source: "TowerShape") -> dict[str, Overlap]:
    """The share of ``one`` that ``other`` keeps too, for "embedding", "heads" and "channels" of the same tower."""
    return {
        "embedding": overlap([(one.embedding, other.embedding, source.width)]),
        "heads": overlap(zip(one.heads, other.heads, source.heads, strict=True)),
        "channels": overlap(zip(one.channels, other.channels, source.channels, strict=True)),
    }
