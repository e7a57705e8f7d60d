"""Whether what was learnt to stay is what a rule would have kept."""

from collections.abc import Iterable
from dataclasses import dataclass

from workbench.config.inheritance import WidthRule
from workbench.config.shape import TowerShape
from workbench.inheritance.manual import blocks_of
from workbench.inheritance.selection import Numbers, Selection, TowerSelection
from workbench.inheritance.width import choose_channels
from workbench.models.clip import Clip
from workbench.models.shapes import tower_shape


@dataclass(frozen=True)
class Overlap:
    """How much of one selection another shares: 1 is all of it."""

    shared: float
    chance: float  # what a random choice of as many in each layer would share on average


def overlaps(one: TowerSelection, other: TowerSelection, source: TowerShape) -> dict[str, Overlap]:
    """The share of ``one`` that ``other`` keeps too, for "embedding", "heads" and "channels" of the same source."""
    mine, theirs = _by_source_layer(one, source), _by_source_layer(other, source)
    return {
        "embedding": _overlap([(one.embedding, other.embedding, source.width)]),
        "heads": _overlap(zip(mine.heads, theirs.heads, source.heads, strict=True)),
        "channels": _overlap(zip(mine.channels, theirs.channels, source.channels, strict=True)),
    }


def by_rule(teacher: Clip, learnt: Selection, rule: WidthRule) -> Selection:
    """What a rule would have kept of the teacher, had it been told how many of each to keep in every layer."""
    chosen: Selection = {}
    for tower, selection in learnt.items():
        source = tower_shape(teacher.config, tower)
        blocks = blocks_of(teacher, tower)
        kept = [blocks[layer] for layer in selection.layers]
        chosen[tower] = choose_channels(rule, source, selection.shape(source), selection.layers, kept)
    return chosen


def _overlap(layers: Iterable[tuple[Numbers, Numbers, int]]) -> Overlap:
    """From what the one and the other keep of each layer's parts, and how many those are."""
    kept = shared = 0
    chance = 0.0
    for one, other, available in layers:
        kept += len(one)
        shared += len(set(one) & set(other))
        chance += len(one) * len(other) / available if available else 0
    return Overlap(shared / kept, chance / kept) if kept else Overlap(1.0, 1.0)


def _by_source_layer(selection: TowerSelection, source: TowerShape) -> TowerSelection:
    """The same with a place for every layer of the source."""
    at = {layer: number for number, layer in enumerate(selection.layers)}
    layers = range(source.num_layers)
    return TowerSelection(
        layers=tuple(layers),
        embedding=selection.embedding,
        heads=tuple(selection.heads[at[layer]] if layer in at else () for layer in layers),
        channels=tuple(selection.channels[at[layer]] if layer in at else () for layer in layers),
    )
