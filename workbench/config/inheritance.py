"""Weight inheritance: which layers, channels and heads a student keeps, by a fixed plan or by learned masks."""

from itertools import accumulate
from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag, model_validator

from workbench.config.base import Config

Tower = Literal["image", "text"]
TOWERS: tuple[Tower, ...] = get_args(Tower)

Count = Annotated[int, Field(ge=0)]


class TowerShape(Config):
    """Shape of a transformer tower: its width, and the attention heads and FFN channels of each layer."""

    width: PositiveInt
    """Embedding channels, the same in every layer."""
    head_width: PositiveInt
    """Channels of one attention head."""
    heads: tuple[Count, ...]
    """Attention heads per layer; with 0 heads the attention reduces to its output bias."""
    channels: tuple[Count, ...]
    """FFN channels per layer; with 0 channels the FFN reduces to its output bias."""

    @model_validator(mode="after")
    def _check_num_layers(self) -> "TowerShape":
        if len(self.heads) != len(self.channels):
            raise ValueError(
                f"heads for {len(self.heads)} layers but channels for {len(self.channels)}: give one number per layer"
            )
        if not self.heads:
            raise ValueError("a tower needs at least one layer")
        return self

    @property
    def num_layers(self) -> int:
        """Number of layers, including those with neither heads nor channels."""
        return len(self.heads)

    @property
    def is_plain(self) -> bool:
        """Whether this is a standard transformer: equal layers, and heads × head width = width."""
        alike = len(set(self.heads)) == len(set(self.channels)) == 1
        return alike and self.heads[0] * self.head_width == self.width and self.channels[0] > 0

    @property
    def block_weights(self) -> int:
        """Number of weights in the attention and FFN matrices, without biases, norms and embeddings."""
        # Per head: query, key, value and output rows; per FFN channel: one row in and one column out.
        return (4 * self.head_width * sum(self.heads) + 2 * sum(self.channels)) * self.width


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
    """What one tower keeps. An integer is a count, a number below 1 is a fraction, and 0 keeps everything."""

    depth: AmountOrList = 0
    """Layers to keep: a count, a fraction, or a list of layer indices from 0; 0 keeps all. For a ResNet: a fraction, or
    the number of blocks in each of its four stages."""
    depth_rule: DepthRule = "even"
    """Which layers to keep: even: evenly spaced; released_stride: 0, s, 2s, ... with s = L // k, as in the released
    code; first; last; importance: those with the largest output weights."""
    width: Amount = 0
    """Embedding channels to keep; 0 keeps all. For a ResNet: channels of the stem; all others scale in proportion."""
    heads: Amount = 0
    """Attention heads to keep in every layer; 0: all, or with a new width, as many as a standard tower of it has."""
    channels: Amount = 0
    """FFN channels to keep in every layer; 0: all, or with a new width, as many as a standard tower of it has."""
    width_rule: WidthRule = "leading"
    """Which channels and heads to keep: leading: the first ones; magnitude: those with the largest weight norm."""

    @model_validator(mode="after")
    def _check_rules(self) -> "TowerPlan":
        if self.depth_rule != "even" and (not self.depth or isinstance(self.depth, tuple)):
            raise ValueError(f"depth_rule {self.depth_rule} chooses among layers: set depth to the number to keep")
        if self.width_rule != "leading" and not (self.width or self.heads or self.channels):
            raise ValueError(f"width_rule {self.width_rule} needs something to choose: set width, heads or channels")
        return self

    @property
    def keeps_all(self) -> bool:
        """Whether the tower is kept unchanged."""
        return not (self.depth or self.width or self.heads or self.channels)


class Plan(Config):
    """Manual inheritance: what each tower keeps, and which tower is frozen."""

    image: TowerPlan = TowerPlan()
    """What the image tower keeps."""
    text: TowerPlan = TowerPlan()
    """What the text tower keeps."""
    frozen: Literal["", "image", "text"] = ""
    """Tower that keeps the teacher's weights and is not trained; "" for none."""

    @model_validator(mode="after")
    def _check_frozen(self) -> "Plan":
        for tower in TOWERS:
            if self.frozen == tower and not getattr(self, tower).keeps_all:
                raise ValueError(f"the frozen {tower} tower stays the teacher's: leave out the plan for it")
        return self


class GatesConfig(Config):
    """Automatic inheritance: learned masks over heads, FFN channels and embedding channels."""

    sparsity: float = Field(0.5, gt=0, lt=1)
    """Target sparsity: fraction of the original teacher's attention and FFN weights to remove, over both towers."""
    constraint: Literal["paper", "released"] = "paper"
    """Sparsity constraint. paper: penalizes deviation on both sides of the target; released: only sparsity below it."""
    ramp_steps: PositiveInt = 1000
    """Steps over which the target sparsity rises linearly to its final value."""
    learning_rate: PositiveFloat = 0.02
    """Learning rate of the masks and of the Lagrange multipliers (gradient ascent); constant, no weight decay."""


class StageConfig(GatesConfig):
    """One stage of automatic inheritance: learn masks, remove what they close, then train the remaining weights."""

    num_steps: PositiveInt
    """Number of steps of the stage, learning masks included."""
    mask_steps: PositiveInt
    """Number of first steps that learn the masks, while the learning rate rises; in the remaining steps it decays to
    0."""

    @model_validator(mode="after")
    def _check_phases(self) -> "StageConfig":
        if self.mask_steps >= self.num_steps:
            raise ValueError(
                f"mask_steps {self.mask_steps} of num_steps {self.num_steps} leave none to train the rest: use fewer"
            )
        if self.ramp_steps > self.mask_steps:
            raise ValueError(
                f"the target is still rising when the masks are fixed: set ramp_steps to at most {self.mask_steps}"
            )
        return self

    def stretched(self, mask_steps: int, num_steps: int, ratio: float) -> "StageConfig":
        """The same stage with ``ratio`` times as many steps; the masks' learning rate scales by 1 / ``ratio``."""
        update = {
            "num_steps": num_steps,
            "mask_steps": mask_steps,
            "ramp_steps": min(mask_steps, max(1, round(self.ramp_steps * ratio))),
            "learning_rate": self.learning_rate / ratio,
        }
        return self.model_copy(update=update)


class InheritanceConfig(Plan):
    """How a run's student is made from its source: a plan applied before step 1, then stages of learned masks."""

    source: str = ""
    """SPEC of the model to inherit from; "" for the run's teacher."""
    weights: Literal["inherited", "random"] = "inherited"
    """inherited: start from the source's weights; random: the same architecture with random weights, as a control. A
    frozen tower keeps the source's weights either way."""
    stages: tuple[StageConfig, ...] = ()
    """Consecutive stages of learned masks; without stages only the plan applies."""

    @model_validator(mode="after")
    def _check_stages(self) -> "InheritanceConfig":
        sparsities = [stage.sparsity for stage in self.stages]
        if sparsities != sorted(set(sparsities)):
            raise ValueError(f"stages of sparsity {sparsities}: each must remove more than the one before")
        if self.stages and self.weights == "random":
            raise ValueError("masks are learned over inherited weights, not random ones: drop the stages")
        return self

    @property
    def num_steps(self) -> int:
        """Total number of steps of all stages."""
        return sum(stage.num_steps for stage in self.stages)

    def stretched(self, num_steps: int) -> "InheritanceConfig":
        """The same stages scaled to a run of exactly ``num_steps``."""
        if not self.stages:
            return self
        lengths = [steps for stage in self.stages for steps in (stage.mask_steps, stage.num_steps - stage.mask_steps)]
        if num_steps < len(lengths):
            raise ValueError(f"{num_steps} steps are too few for {len(lengths)} phases: use more")
        ratio = num_steps / self.num_steps
        # Round cumulative ends, not lengths, so that rounding errors do not add up.
        ends = [0]
        for phase, end in enumerate(accumulate(lengths), start=1):
            # In proportion, but at least one step for this phase and for each later one.
            ends.append(min(max(round(end * ratio), ends[-1] + 1), num_steps - len(lengths) + phase))
        stages = tuple(
            stage.stretched(middle - start, end - start, ratio)
            for stage, start, middle, end in zip(self.stages, ends[:-1:2], ends[1::2], ends[2::2], strict=True)
        )
        return self.model_copy(update={"stages": stages})
