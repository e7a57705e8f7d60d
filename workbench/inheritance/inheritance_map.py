"""What a student has of the model that it inherits from, through all stages, in that model's own numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from workbench.config.inheritance import TOWERS, Plan, Tower, TowerShape
from workbench.inheritance.gates import Gates
from workbench.inheritance.manual import choose
from workbench.inheritance.masks import Masks
from workbench.inheritance.selection import Numbers, Selection, TowerSelection, everything
from workbench.models.clip import Clip
from workbench.models.shapes import tower_shape, why_not_a_transformer
from workbench.runs.mask_snapshots import GateValues, MaskSnapshot, TowerMask


@dataclass(frozen=True)
class InheritanceMap:
    """The transformer towers that a student inherits some of.

    Args:
        source: their shapes in the model that they come from.
        kept: what the student has of them by now.
    """

    source: Mapping[Tower, TowerShape]
    kept: Selection

    @property
    def num_weights(self) -> int:
        """The attention and FFN weights of these towers in the source."""
        return sum(shape.block_weights for shape in self.source.values())

    @property
    def sparsity(self) -> float:
        """The share of those weights that the student does not have."""
        left = sum(selection.shape(self.source[tower]).block_weights for tower, selection in self.kept.items())
        return 1 - left / self.num_weights

    def after(self, masks: Masks) -> "InheritanceMap":
        """What is left once masks over the student's own parts have been cut out."""
        later = {
            tower: self.kept[tower].then(mask.selection(self.kept[tower].shape(self.source[tower])))
            for tower, mask in masks.items()
        }
        return InheritanceMap(self.source, self.kept | later)

    def snapshot(self, step: int, stage: int, gates: Gates | None = None, target: float | None = None) -> MaskSnapshot:
        """How much of the source is there after ``step`` steps, for all that is kept of it.

        Args:
            gates: those that are learned at the time, over what is left; without any, what is left is there for good.
            target: the sparsity that they are wanted to reach by now.
        """
        sparsity = float(gates.expected_sparsity().detach()) if gates else self.sparsity
        chances = gates.open_probabilities() if gates else {}
        towers = {tower: self._mask(tower, chances) for tower in self.source}
        return MaskSnapshot(step, stage, gates is not None, sparsity, sparsity if target is None else target, towers)

    def _mask(self, tower: Tower, chances: Mapping[str, Tensor]) -> TowerMask:
        source, kept = self.source[tower], self.kept[tower]
        (embedding_C,) = _placed((source.width,), (0,), [kept.embedding], chances.get(f"{tower}/embedding"))
        heads = _placed(source.heads, kept.layers, kept.heads, chances.get(f"{tower}/heads"))
        channels = _placed(source.channels, kept.layers, kept.channels, chances.get(f"{tower}/channels"))
        return TowerMask(source, embedding_C, heads, channels)

    def document(self) -> dict[str, Any]:
        """As plain data, to be kept with a checkpoint."""
        return {
            "source": {tower: shape.model_dump(mode="json") for tower, shape in self.source.items()},
            "kept": {tower: selection.model_dump(mode="json") for tower, selection in self.kept.items()},
        }

    @staticmethod
    def from_document(document: Mapping[str, Any]) -> "InheritanceMap":
        """Undo :meth:`document`."""
        return InheritanceMap(
            {tower: TowerShape.parse(document["source"][tower]) for tower in TOWERS if tower in document["source"]},
            {tower: TowerSelection.parse(document["kept"][tower]) for tower in TOWERS if tower in document["kept"]},
        )


def planned_map(source: Clip, plan: Plan) -> InheritanceMap:
    """What a plan leaves of every transformer tower that is not frozen.

    Raises:
        ValueError: the plan cannot be, with the reason.
    """
    towers = [tower for tower in TOWERS if tower != plan.frozen and not why_not_a_transformer(source.config, tower)]
    shapes = {tower: tower_shape(source.config, tower) for tower in towers}
    return InheritanceMap(shapes, {tower: everything(shape) for tower, shape in shapes.items()} | choose(source, plan))


def _placed(sizes: Numbers, layers: Numbers, kept: Sequence[Numbers], chances: Tensor | None) -> tuple[GateValues, ...]:
    """What is kept of some layers, in its place among all parts of all layers: its chance, or 1; 0 for what is gone."""
    counts = [len(numbers) for numbers in kept]
    values = np.ones(sum(counts), np.float32) if chances is None else chances.cpu().numpy()
    parts = tuple(np.zeros(size, np.float32) for size in sizes)
    for layer, numbers, own in zip(layers, kept, np.split(values, np.cumsum(counts)[:-1]), strict=True):
        parts[layer][list(numbers)] = own
    return parts
