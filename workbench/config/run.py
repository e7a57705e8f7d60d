"""Every knob of a run."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    field_validator,
    model_validator,
)

from workbench.config.base import Config
from workbench.config.inheritance import InheritanceConfig
from workbench.config.schedule import Schedule
from workbench.documents import check_bounds, finite

INHERITED = "inherited"  # the student.model that [inheritance] describes
DecayRate = Annotated[float, Field(ge=0, lt=1)]


def _kind(weight: Any) -> str:
    return "<schedule>" if isinstance(weight, dict | Schedule) else "<number>"


CountOrAuto = Annotated[
    Annotated[int, Field(ge=0), Tag("<number>")] | Annotated[Literal["auto"], Tag("<word>")],
    Discriminator(lambda value: "<word>" if value == "auto" else "<number>"),
]
Weight = Annotated[
    Annotated[float, Field(ge=0), Tag("<number>")] | Annotated[Schedule, Tag("<schedule>")], Discriminator(_kind)
]


class DataConfig(Config):
    """Which pairs are trained on and evaluated, and in what order and crops."""

    train: str = "samples:scenes"
    """SPEC of the training pairs."""
    num_pairs: int = Field(0, ge=0)
    """How many training pairs to use at most, the first ones; 0 uses all."""
    validation: str = "auto"
    """SPEC of the pairs measured while training; auto: the sample set's own (other data have none); empty: none."""
    num_validation_pairs: int = Field(0, ge=0)
    """How many validation pairs to use; 0 uses all."""
    test: str = "auto"
    """SPEC of the pairs measured once, at the end; auto and empty as for validation."""
    num_test_pairs: int = Field(0, ge=0)
    """How many test pairs to use; 0 uses all."""
    seed: int = 0
    """Seeds the order, the crops and the choice of caption. A cohort shares it."""
    bad_shards: Literal["refuse", "skip"] = "refuse"
    """What to do with shards that are missing or cannot be read, of training and of held-out pairs: refuse them, or
    leave them out, counted and warned of. Which were left out is part of the data's fingerprint."""
    views: int = Field(0, ge=0)
    """Reproducible views a picture; the epoch picks one. 0 draws a new view every epoch."""
    crop_scale: tuple[float, float] = (0.9, 1.0)
    """Smallest and largest share of the picture's area that a training crop keeps."""
    working_size: int = Field(0, ge=0)
    """Training pictures whose shorter side is longer are scaled down to so many pixels before they are cropped,
    prepared or not; 0 crops them as they are."""
    prepare: Literal["auto", "off", "pixels", "jpeg"] = "auto"
    """Keep pictures on disk, decoded (pixels) or in their own format (jpeg). Never changes a batch. auto keeps up to
    2 GB of pixels, where they are read more than once."""
    num_workers: int = Field(0, ge=0)
    """Processes that decode; 0 decodes in a thread of the run. Never changes the order or the crops."""

    @field_validator("crop_scale")
    @classmethod
    def _is_a_range(cls, crop_scale: tuple[float, float]) -> tuple[float, float]:
        low, high = crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"must rise from above 0 to at most 1 (got {low}, {high})")
        return crop_scale


class StudentConfig(Config):
    """The model that learns."""

    model: str = "mini-w64"
    """SPEC of the student: a built-in size, open_clip:NAME[@weights], config:FILE, run:ID or sample:NAME; or
    inherited, which [inheritance] describes."""
    tokenizer: str = ""
    """words:scenes, words:emoji or bpe; empty keeps the model's own."""


class TeacherConfig(Config):
    """The frozen model that is learnt from."""

    model: str = ""
    """SPEC of the teacher; empty for none."""
    chunk_size: PositiveInt = 256
    """Most pairs in one forward of the teacher, and no more than a batch has. Every forward has as many rows, padded if
    need be (batches of 5 to 11 pairs to 12 rows)."""
    cache: Literal["auto", "on", "off"] = "auto"
    """Read the teacher's embeddings of all data.views from disk: on makes them first where they are missing; auto does
    so only where that saves the teacher work, and reads what is there."""
    cache_dtype: Literal["float32", "float16"] = "float32"
    """What they are kept as: float32 changes no weight on a CPU, float16 takes half the room and needs cache = "on"."""

    @model_validator(mode="after")
    def _is_kept_as_asked(self) -> "TeacherConfig":
        if self.cache_dtype == "float16" and self.cache != "on":
            raise ValueError(f'cache_dtype = "float16" needs cache = "on" (it is "{self.cache}")')
        return self


class LossConfig(Config):
    """One loss. Keys beyond these are the loss's own options; `workbench losses` lists them."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(finite)]]

    weight: Weight = 1.0
    """What the loss is multiplied by: a number, or a table of :class:`Schedule`. At 0 the loss is not computed."""
    weight_at: Literal["published", "here"] = "published"
    """Whether the weight belongs to the papers' batch and width, and is translated to this run's, or used as it is."""
    file: str = ""
    """A Python file that defines this loss; empty for one of the workbench's."""

    @property
    def schedule(self) -> Schedule:
        """The weight by step."""
        return self.weight if isinstance(self.weight, Schedule) else Schedule(value=self.weight)

    def options(self) -> dict[str, Any]:
        """The loss's own options."""
        return dict(self.model_extra or {})

    def stretched(self, ratio: float) -> "LossConfig":
        """The same loss in a run ``ratio`` times as long."""
        weight = self.weight
        return self.model_copy(update={"weight": weight.stretched(ratio)}) if isinstance(weight, Schedule) else self


class OptimizerConfig(Config):
    """AdamW, with no decay on gains, biases and scales."""

    learning_rate: PositiveFloat = 1e-3
    """Peak learning rate, reached at the end of the warm-up."""
    weight_decay: float = Field(0.1, ge=0)
    """Decoupled weight decay of the weight matrices."""
    betas: tuple[DecayRate, DecayRate] = (0.9, 0.98)
    """Decay rates of the first and second moment."""
    eps: PositiveFloat = 1e-6
    """Added to the root of the second moment."""
    warmup_fraction: float = Field(0.025, ge=0, le=1)
    """Share of the steps over which the learning rate rises linearly (the papers: 2.5 % and 2.7 %)."""
    clip_norm: float = Field(0.0, ge=0)
    """Largest norm of the gradient of all that learns; 0 does not clip."""


class TrainConfig(Config):
    """How long and how big."""

    num_steps: PositiveInt = 600
    """Optimiser steps."""
    batch_size: int = Field(128, ge=2)
    """Pairs in a batch: every one is every other's negative."""
    micro_batch_size: int = Field(0, ge=0)
    """Pairs whose activations are held at once; 0 for the whole batch. The gradient is that of the whole batch."""
    max_skipped_steps: int = Field(0, ge=0)
    """Steps whose loss or gradient may be infinite, each skipped and told of; at one more the run has diverged."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the towers; auto is bf16 on a GPU that has it, and is recorded as what it came to. Normalisation,
    logits and losses are always float32."""
    loss_chunk_size: CountOrAuto = "auto"
    """Rows of the B × B matrices that losses hold at once; 0 holds all, auto all up to 2,048 pairs, 512 beyond."""
    stacked: Literal["auto", "on", "off"] = "auto"
    """Whether members of a cohort that are alike run as one; auto on a GPU, for on a CPU it is slower."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU where there is one."""


class EvaluateConfig(Config):
    """What is measured, and when."""

    every_steps: int = Field(0, ge=0)
    """Evaluate on the validation pairs every so many steps; 0 only at the end."""
    block_size: PositiveInt = 1000
    """Pictures among which one is to be found."""


class LogConfig(Config):
    """What is kept while training."""

    every_steps: PositiveInt = 10
    """Steps between two StepDone events."""
    checkpoint_every_steps: int = Field(200, ge=0)
    """Steps between two checkpoints; 0 keeps only the last."""
    keep_checkpoints: PositiveInt = 2
    """How many of the newest checkpoints stay on disk."""
    diagnose_every_steps: CountOrAuto = "auto"
    """Steps between two measurements of every loss's gradient, from step 1 on; 0 for none, auto stays under 5 % of the
    run's time."""


class RunConfig(Config):
    """Everything that decides a run's outcome, and how it is watched."""

    recipe: str = "custom"
    """The recipe this came from."""
    question: str = ""
    """What the recipe is for, in one line."""
    seed: int = 0
    """Seeds the initial weights."""
    data: DataConfig = DataConfig()
    student: StudentConfig = StudentConfig()
    teacher: TeacherConfig = TeacherConfig()
    inheritance: InheritanceConfig = InheritanceConfig()
    loss: dict[str, LossConfig] = {"clip": LossConfig()}
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _inheritance_fits(self) -> "RunConfig":
        inheritance = self.inheritance
        if self.student.model != INHERITED:
            if inheritance != InheritanceConfig():
                raise ValueError(f"[inheritance] is for student.model={INHERITED}: set that, or drop [inheritance]")
            return self
        if not (inheritance.source or self.teacher.model):
            raise ValueError("inherit from which model? Set inheritance.source or teacher.model")
        if self.student.tokenizer:
            raise ValueError("an inherited student keeps its source's tokenizer: drop student.tokenizer")
        if inheritance.stages and inheritance.num_steps != self.train.num_steps:
            raise ValueError(
                f"train.num_steps is {self.train.num_steps}, but the stages of [inheritance] have "
                f"{inheritance.num_steps} together: make them equal, or stretch the recipe with --steps"
            )
        return self

    def with_seed(self, seed: int) -> "RunConfig":
        """The same run as another replicate: its own weights, order, crops and captions.

        Raises:
            ValueError: the seed does not fit 64 bits.
        """
        check_bounds({"seed": seed}, "--seed")
        data = self.data.model_copy(update={"seed": seed})
        return self.model_copy(update={"seed": seed, "data": data})

    def with_steps(self, num_steps: int) -> "RunConfig":
        """The same run at another length: it is evaluated and saved as often, at steps that scale in proportion.

        Raises:
            ValueError: there would be no step, or more than fit 64 bits.
        """
        check_bounds({"steps": num_steps}, "--steps")
        if num_steps < 1:
            raise ValueError(f"--steps must be at least 1 (got {num_steps})")
        ratio = num_steps / self.train.num_steps

        def scaled(steps: int) -> int:
            return max(1, round(steps * ratio)) if steps else 0

        log, evaluate = self.log, self.evaluate
        diagnose = log.diagnose_every_steps
        return self.model_copy(
            update={
                "inheritance": self.inheritance.stretched(num_steps),
                "loss": {name: loss.stretched(ratio) for name, loss in self.loss.items()},
                "train": self.train.model_copy(update={"num_steps": num_steps}),
                "evaluate": evaluate.model_copy(update={"every_steps": scaled(evaluate.every_steps)}),
                "log": log.model_copy(
                    update={
                        "checkpoint_every_steps": scaled(log.checkpoint_every_steps),
                        "diagnose_every_steps": diagnose if diagnose == "auto" else scaled(diagnose),
                    }
                ),
            }
        )
