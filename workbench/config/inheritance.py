"""What a student takes over from its teacher: said beforehand (a plan), or learnt (gates)."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag, model_validator

from workbench.config.base import Config
from workbench.config.shape import TOWERS, Count

DepthRule = Literal["even", "released_stride", "first", "last", "importance"]
WidthRule = Literal["leading", "magnitude"]


def _kind(amount: Any) -> str:
    if isinstance(amount, list | tuple):
        return "<list>"
    return "<share>" if isinstance(amount, float) else "<number>"


_Number = Annotated[Count, Tag("<number>")]
_Share = Annotated[float, Field(gt=0, lt=1), Tag("<share>")]
_List = Annotated[tuple[Count, ...], Field(min_length=1), Tag("<list>")]
Amount = Annotated[_Number | _Share, Discriminator(_kind)]
AmountOrList = Annotated[_Number | _Share | _List, Discriminator(_kind)]


class TowerPlan(Config):
    """What one tower keeps. A whole number is how many, a number below 1 which share, and 0 leaves all."""

    depth: AmountOrList = 0
    """Layers to keep, or a list of their numbers from 0. Of a ResNet: a share, or the blocks of its four stages."""
    depth_rule: DepthRule = "even"
    """Which layers: spread evenly; 0, step, 2·step, ... with step = L // k, as released; the first; the last; or those
    whose weights write the most."""
    width: Amount = 0
    """Embedding channels to keep. Of a ResNet: those of its stem, to which all others are in proportion."""
    heads: Amount = 0
    """Attention heads to keep in every layer. 0: all, or as many as a plain tower of the new width has."""
    channels: Amount = 0
    """FFN channels to keep in every layer. 0: all, or as many as a plain tower of the new width has."""
    width_rule: WidthRule = "leading"
    """Which channels and heads: the leading ones, or those with the largest weights."""

    @model_validator(mode="after")
    def _rules_have_effect(self) -> "TowerPlan":
        if self.depth_rule != "even" and (not self.depth or isinstance(self.depth, tuple)):
            raise ValueError(f"depth_rule {self.depth_rule} chooses among layers: say by depth how many to keep")
        if self.width_rule != "leading" and not (self.width or self.heads or self.channels):
            raise ValueError(f"width_rule {self.width_rule} needs something to choose: set width, heads or channels")
        return self

    @property
    def keeps_all(self) -> bool:
        """Whether the tower stays as it is."""
        return not (self.depth or self.width or self.heads or self.channels)


class Plan(Config):
    """Manual inheritance: what each tower keeps, and which of them learns no more."""

    image: TowerPlan = TowerPlan()
    """The image tower."""
    text: TowerPlan = TowerPlan()
    """The text tower."""
    frozen: Literal["", "image", "text"] = ""
    """A tower that keeps the teacher's weights for good; empty for none."""

    @model_validator(mode="after")
    def _freezes_whole_towers(self) -> "Plan":
        for tower in TOWERS:
            if self.frozen == tower and not getattr(self, tower).keeps_all:
                raise ValueError(f"the frozen {tower} tower stays the teacher's: leave out the plan for it")
        return self


class GatesConfig(Config):
    """Automatic inheritance: gates that learn which heads, FFN channels and embedding channels stay."""

    sparsity: float = Field(0.5, gt=0, lt=1)
    """Share of the original teacher's attention and FFN weights that is gone in the end, of both towers together."""
    constraint: Literal["paper", "released"] = "paper"
    """The paper's pulls from both sides; the released one stops where the target is reached."""
    ramp_steps: PositiveInt = 1000
    """Steps over which the target rises from the stage's start to its end."""
    learning_rate: PositiveFloat = 0.02
    """Of the gates, and of the multipliers, which ascend; constant, without decay."""

    def stretched(self, ratio: float) -> "GatesConfig":
        """The same in a run ``ratio`` times as long: with fewer steps to close in, gates learn as much faster."""
        ramp_steps = max(1, round(self.ramp_steps * ratio))
        return self.model_copy(update={"ramp_steps": ramp_steps, "learning_rate": self.learning_rate / ratio})
