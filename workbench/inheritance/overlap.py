"""Whether what was learnt to stay is what a rule would have kept."""

from workbench.config.inheritance import WidthRule
from workbench.config.shape import Tower, TowerShape
from workbench.inheritance.manual import blocks_of
from workbench.inheritance.selection import Numbers, Selection, TowerSelection
from workbench.inheritance.width import choose_channels
from workbench.models.clip import Clip
from workbench.models.shapes import tower_shape
from workbench.runs.mask_snapshots import Kept, MaskSnapshot
from workbench.views.overlap import Overlap, tower_overlaps


def overlaps(one: TowerSelection, other: TowerSelection, source: TowerShape) -> dict[str, Overlap]:
    """The share of ``one`` that ``other`` keeps too, for "embedding", "heads" and "channels" of the same source."""
    return tower_overlaps(_by_source_layer(one, source), _by_source_layer(other, source), source)


def by_rule(teacher: Clip, learnt: Selection, rule: WidthRule) -> Selection:
    """What a rule would have kept of the teacher, had it been told how many of each to keep in every layer."""
    chosen: Selection = {}
    for tower, selection in learnt.items():
        source = tower_shape(teacher.config, tower)
        blocks = blocks_of(teacher, tower)
        kept = [blocks[layer] for layer in selection.layers]
        chosen[tower] = choose_channels(rule, source, selection.shape(source), selection.layers, kept)
    return chosen


def overlaps_with_rule(teacher: Clip, snapshot: MaskSnapshot, rule: WidthRule) -> dict[Tower, dict[str, Overlap]]:
    """The share of what a run's masks keep that a rule would have kept too, were it told how many of each.

    Raises:
        ValueError: the masks are of another teacher.
    """
    for tower, mask in snapshot.towers.items():
        if tower_shape(teacher.config, tower) != mask.teacher:
            raise ValueError(f"the {tower} tower of the teacher has changed since: the masks do not fit it")
    learnt = {tower: _selection(mask.kept) for tower, mask in snapshot.towers.items()}
    ruled = by_rule(teacher, learnt, rule)
    return {tower: overlaps(learnt[tower], ruled[tower], mask.teacher) for tower, mask in snapshot.towers.items()}


def _selection(kept: Kept) -> TowerSelection:
    layers = tuple(range(len(kept.heads)))
    return TowerSelection(layers=layers, embedding=kept.embedding, heads=kept.heads, channels=kept.channels)


def _by_source_layer(selection: TowerSelection, source: TowerShape) -> Kept:
    """What stays, with a place for every layer of the source."""
    at = {layer: number for number, layer in enumerate(selection.layers)}

    def placed(parts: tuple[Numbers, ...]) -> tuple[Numbers, ...]:
        return tuple(parts[at[layer]] if layer in at else () for layer in range(source.num_layers))

    return Kept(selection.embedding, placed(selection.heads), placed(selection.channels))
