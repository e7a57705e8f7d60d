"""Which parts of a transformer tower stay: numbers in the tower they are taken from."""

from workbench.config.base import Config
from workbench.config.shape import Tower, TowerShape

Numbers = tuple[int, ...]


class TowerSelection(Config):
    """What stays of one tower. All numbers count from 0 and ascend."""

    layers: Numbers
    """The layers that stay, those that keep nothing but a bias included."""
    embedding: Numbers
    """The embedding channels that stay, in all layers."""
    heads: tuple[Numbers, ...]
    """For each layer that stays, its attention heads that do."""
    channels: tuple[Numbers, ...]
    """For each layer that stays, its FFN channels that do."""

    def shape(self, source: TowerShape) -> TowerShape:
        """The shape of what stays."""
        return TowerShape(
            width=len(self.embedding),
            head_width=source.head_width,
            heads=tuple(len(heads) for heads in self.heads),
            channels=tuple(len(channels) for channels in self.channels),
        )

    def by_source_layer(self, source: TowerShape) -> TowerShape:
        """The same shape with a place for every layer of the source; those that went have nothing in theirs."""
        heads, channels = [0] * source.num_layers, [0] * source.num_layers
        for layer, own_heads, own_channels in zip(self.layers, self.heads, self.channels, strict=True):
            heads[layer], channels[layer] = len(own_heads), len(own_channels)
        return TowerShape(
            width=len(self.embedding), head_width=source.head_width, heads=tuple(heads), channels=tuple(channels)
        )

    def then(self, later: "TowerSelection") -> "TowerSelection":
        """What stays of the source when ``later`` chooses among what this one left."""
        return TowerSelection(
            layers=_among(self.layers, later.layers),
            embedding=_among(self.embedding, later.embedding),
            heads=tuple(_among(self.heads[n], kept) for n, kept in zip(later.layers, later.heads, strict=True)),
            channels=tuple(
                _among(self.channels[n], kept) for n, kept in zip(later.layers, later.channels, strict=True)
            ),
        )


Selection = dict[Tower, TowerSelection]


def everything(shape: TowerShape) -> TowerSelection:
    """The selection that leaves a tower as it is."""
    return TowerSelection(
        layers=tuple(range(shape.num_layers)),
        embedding=tuple(range(shape.width)),
        heads=tuple(tuple(range(heads)) for heads in shape.heads),
        channels=tuple(tuple(range(channels)) for channels in shape.channels),
    )


def _among(left: Numbers, numbers: Numbers) -> Numbers:
    return tuple(left[number] for number in numbers)
