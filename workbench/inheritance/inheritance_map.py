"""Which parts of its source model a student still has after several stages, in the source's own numbering."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from workbench.config.inheritance import TOWERS, Plan, Tower, TowerShape
from workbench.inheritance.gates import Gates
from workbench.inheritance.manual import choose
from workbench.inheritance.masks import Masks
from workbench.inheritance.selection import Numbers, Selection, TowerSelection, full_selection
from workbench.models.clip import Clip
from workbench.models.configs import tower_shape, why_not_a_transformer
from workbench.runs.snapshots import MaskSnapshot, TowerMask


@dataclass(frozen=True)
class InheritanceMap:
    """Transformer towers that a student inherits from a source model.

    Args:
        source: their shapes in the source model.
        kept: the parts that the student has now.
    """

    source: Mapping[Tower, TowerShape]
    kept: Selection

    @property
    def num_weights(self) -> int:
        """Attention and FFN weights of these towers in the source."""
        return sum(shape.block_weights for shape in self.source.values())

    @property
    def sparsity(self) -> float:
        """Share of those weights that the student does not have."""
        left = sum(selection.shape(self.source[tower]).block_weights for tower, selection in self.kept.items())
        return 1 - left / self.num_weights

    def after(self, masks: Masks) -> "InheritanceMap":
        """The map after slicing by masks over the student's current parts."""
        later = {
            tower: self.kept[tower].then(mask.selection(self.kept[tower].shape(self.source[tower])))
            for tower, mask in masks.items()
        }
        return InheritanceMap(self.source, self.kept | later)

    def snapshot(self, step: int, stage: int, gates: Gates | None = None, target: float | None = None) -> MaskSnapshot:
        """The inherited parts after ``step`` steps, as values in [0, 1] for every part of the source.

        Args:
            gates: the gates being learned, if any: their open probabilities are the values. Without
                gates, kept parts are 1.
            target: the current sparsity target of the gates.
        """
        # While gates are learned, sparsity is an expectation; weights leave the model only at the end of the stage.
        sparsity = float(gates.expected_sparsity().detach()) if gates else self.sparsity
        probabilities = gates.open_probabilities() if gates else {}
        towers = {tower: self._mask(tower, probabilities) for tower in self.source}
        return MaskSnapshot(step, stage, gates is not None, sparsity, sparsity if target is None else target, towers)

    def _mask(self, tower: Tower, probabilities: Mapping[str, Tensor]) -> TowerMask:
        source, kept = self.source[tower], self.kept[tower]
        (embedding_C,) = _in_source_positions(
            (source.width,), (0,), [kept.embedding], probabilities.get(f"{tower}/embedding")
        )
        heads = _in_source_positions(source.heads, kept.layers, kept.heads, probabilities.get(f"{tower}/heads"))
        channels = _in_source_positions(
            source.channels, kept.layers, kept.channels, probabilities.get(f"{tower}/channels")
        )
        return TowerMask(source, embedding_C, heads, channels)

    def document(self) -> dict[str, Any]:
        """As JSON-compatible data, stored with a checkpoint."""
        return {
            "source": {tower: shape.model_dump(mode="json") for tower, shape in self.source.items()},
            "kept": {tower: selection.model_dump(mode="json") for tower, selection in self.kept.items()},
        }

    @staticmethod
    def from_document(document: Mapping[str, Any]) -> "InheritanceMap":
        """The inverse of :meth:`document`."""
        return InheritanceMap(
            {tower: TowerShape.parse(document["source"][tower]) for tower in TOWERS if tower in document["source"]},
            {tower: TowerSelection.parse(document["kept"][tower]) for tower in TOWERS if tower in document["kept"]},
        )


def planned_map(source: Clip, plan: Plan) -> InheritanceMap:
    """The map of a plan, for every transformer tower that is not frozen."""
    towers = [tower for tower in TOWERS if tower != plan.frozen and not why_not_a_transformer(source.config, tower)]
    shapes = {tower: tower_shape(source.config, tower) for tower in towers}
    return InheritanceMap(
        shapes, {tower: full_selection(shape) for tower, shape in shapes.items()} | choose(source, plan)
    )


def _in_source_positions(
    sizes: Numbers, layers: Numbers, kept: Sequence[Numbers], probabilities: Tensor | None
) -> tuple[NDArray[np.float32], ...]:
    """Values of kept parts at their positions in the source: their open probability, or 1; 0 for removed parts."""
    counts = [len(numbers) for numbers in kept]
    values = np.ones(sum(counts), np.float32) if probabilities is None else probabilities.cpu().numpy()
    parts = tuple(np.zeros(size, np.float32) for size in sizes)
    for layer, numbers, own in zip(layers, kept, np.split(values, np.cumsum(counts)[:-1]), strict=True):
        parts[layer][list(numbers)] = own
    return parts
