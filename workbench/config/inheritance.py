"""What a student inherits from its teacher: a plan fixed beforehand, or gates that are learned."""

from itertools import accumulate
from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag, model_validator

from workbench.config.base import Config

# The shape of a transformer tower as numbers, layer by layer.

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


# What a student takes over from its teacher: said beforehand (a plan), or learnt (gates).

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


class StageConfig(GatesConfig):
    """One stage of automatic inheritance: masks are learnt, what they close is cut out, and the rest is trained."""

    num_steps: PositiveInt
    """Steps of the whole stage."""
    mask_steps: PositiveInt
    """The first of these, over which masks are learnt and the learning rate rises; over the others it falls to 0."""

    @model_validator(mode="after")
    def _phases_fit(self) -> "StageConfig":
        if self.mask_steps >= self.num_steps:
            raise ValueError(
                f"mask_steps {self.mask_steps} of num_steps {self.num_steps} leave none to train what stays: take fewer"
            )
        if self.ramp_steps > self.mask_steps:
            raise ValueError(
                f"the target is still rising when masks are fixed: take ramp_steps up to {self.mask_steps}"
            )
        return self

    def stretched(self, mask_steps: int, num_steps: int, ratio: float) -> "StageConfig":
        """The same stage over other steps, ``ratio`` times as many: the fewer there are, the faster gates learn."""
        update = {
            "num_steps": num_steps,
            "mask_steps": mask_steps,
            "ramp_steps": min(mask_steps, max(1, round(self.ramp_steps * ratio))),
            "learning_rate": self.learning_rate / ratio,
        }
        return self.model_copy(update=update)


class InheritanceConfig(Plan):
    """What a run's student takes over before its first step, and what of that goes later, by learnt masks."""

    source: str = ""
    """SPEC of the model to inherit from; empty for the run's teacher."""
    weights: Literal["inherited", "random"] = "inherited"
    """Random: the same architecture from random weights, to compare with. A frozen tower keeps the source's."""
    stages: tuple[StageConfig, ...] = ()
    """Learnt masks, in stages that begin one where the other ends; none inherits by the plan alone."""

    @model_validator(mode="after")
    def _stages_descend(self) -> "InheritanceConfig":
        sparsities = [stage.sparsity for stage in self.stages]
        if sparsities != sorted(set(sparsities)):
            raise ValueError(f"stages of sparsity {sparsities}: each must leave less than the one before")
        if self.stages and self.weights == "random":
            raise ValueError("there is nothing to learn masks of in random weights: drop the stages")
        return self

    @property
    def num_steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.num_steps for stage in self.stages)

    def stretched(self, num_steps: int) -> "InheritanceConfig":
        """The same stages in a run of ``num_steps``, to the step.

        Raises:
            ValueError: there are too few steps for so many phases.
        """
        if not self.stages:
            return self
        lengths = [steps for stage in self.stages for steps in (stage.mask_steps, stage.num_steps - stage.mask_steps)]
        if num_steps < len(lengths):
            raise ValueError(f"{num_steps} steps are too few for {len(lengths)} phases: take more")
        ratio = num_steps / self.num_steps
        ends = [0]
        for phase, end in enumerate(accumulate(lengths), start=1):
            # In proportion, but every phase has a step, those after it too.
            ends.append(min(max(round(end * ratio), ends[-1] + 1), num_steps - len(lengths) + phase))
        stages = tuple(
            stage.stretched(middle - start, end - start, ratio)
            for stage, start, middle, end in zip(self.stages, ends[:-1:2], ends[1::2], ends[2::2], strict=True)
        )
        return self.model_copy(update={"stages": stages})
