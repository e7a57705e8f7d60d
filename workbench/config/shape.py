"""The shape of a transformer tower as numbers, layer by layer."""

from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveInt, model_validator

from workbench.config.base import Config

Tower = Literal["image", "text"]
TOWERS: tuple[Tower, ...] = get_args(Tower)

Count = Annotated[int, Field(ge=0)]


class TowerShape(Config):
    """How wide a tower is, and what each of its layers has of attention heads and FFN channels."""

    width: PositiveInt
    """Embedding channels, the same in every layer."""
    head_width: PositiveInt
    """Channels of one attention head."""
    heads: tuple[Count, ...]
    """Attention heads of every layer; with 0 the attention is only its output bias."""
    channels: tuple[Count, ...]
    """FFN channels of every layer; with 0 the FFN is only its output bias."""

    @model_validator(mode="after")
    def _has_as_many_of_both(self) -> "TowerShape":
        if len(self.heads) != len(self.channels):
            raise ValueError(
                f"heads of {len(self.heads)} layers but channels of {len(self.channels)}: name one a layer"
            )
        if not self.heads:
            raise ValueError("a tower needs at least one layer")
        return self

    @property
    def num_layers(self) -> int:
        """Layers, those with neither heads nor channels included."""
        return len(self.heads)

    @property
    def is_plain(self) -> bool:
        """Whether this is an ordinary transformer: layers all alike, and heads that together are as wide as it is."""
        alike = len(set(self.heads)) == len(set(self.channels)) == 1
        return alike and self.heads[0] * self.head_width == self.width and self.channels[0] > 0

    @property
    def block_weights(self) -> int:
        """Numbers in the attention and FFN matrices; biases, norms and embeddings are not counted."""
        return (4 * self.head_width * sum(self.heads) + 2 * sum(self.channels)) * self.width
