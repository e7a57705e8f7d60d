"""All settings of a run. The string under each field is the manual: completion and the dashboard show it."""

import math
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

from workbench.config.base import Config, Schedule
from workbench.config.dense import DenseConfig
from workbench.config.inheritance import InheritanceConfig
from workbench.config.teacher import TeacherConfig
from workbench.documents import check_bounds, finite

INHERITED = "inherited"  # value of student.model that takes the student from [inheritance]
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
    """Image-text pairs for training and evaluation, their order and their crops."""

    train: str = "samples:scenes"
    """SPEC of the training pairs."""
    num_pairs: int = Field(0, ge=0)
    """Maximum number of training pairs (the first ones); 0 uses all."""
    validation: str = "auto"
    """SPEC of the validation pairs, evaluated during training. auto: the validation split of a sample set (other data
    have none); "": no validation."""
    num_validation_pairs: int = Field(0, ge=0)
    """Number of validation pairs to use; 0 uses all."""
    test: str = "auto"
    """SPEC of the test pairs, evaluated once at the end; auto and "" as for validation."""
    num_test_pairs: int = Field(0, ge=0)
    """Number of test pairs to use; 0 uses all."""
    seed: int = 0
    """Random seed of the data order, the crops and the choice of caption. All runs of a cohort share it."""
    order: Literal["auto", "shuffle", "windows"] = "auto"
    """Order of the training pairs in an epoch: shuffle draws it from all pairs; windows permutes the shards and
    shuffles within windows of them, so that shards are read one after another. auto is windows for shards on other
    machines, else shuffle."""
    shuffle_window: PositiveInt = 65_536
    """Pairs that order = "windows" shuffles together. The images of two windows should fit in memory."""
    bad_shards: Literal["refuse", "skip"] = "refuse"
    """What to do with missing or unreadable shards, in training and held-out data: refuse stops with an error, skip
    drops them with a warning. The dropped shards are part of the data's fingerprint."""
    views: int = Field(0, ge=0)
    """Number of fixed augmented views per image, one used per epoch in turn; 0 draws a new crop every epoch."""
    synthetic_captions: float = Field(0.0, ge=0, le=1)
    """Probability that a view takes a synthetic caption of its image (KEY.syn.json in tar shards, as in DataCompDR)
    instead of one of its own; 0 does not use them."""
    crop_scale: tuple[float, float] = (0.9, 1.0)
    """Range of the random crop's area, as a fraction of the image area (low, high)."""
    working_size: int = Field(0, ge=0)
    """Resize training images so that the shorter side has at most this many pixels before cropping, whether they are
    cached or not; 0 does not resize."""
    prepare: Literal["auto", "off", "pixels", "jpeg", "views"] = "auto"
    """Cache training images on disk: decoded (pixels), in their own format (jpeg), or the crops of all data.views
    (views). auto caches up to 2 GB of views if each is read more than once, else of pixels if images are read more than
    once. Batches are the same either way."""
    num_workers: CountOrAuto = "auto"
    """Number of worker processes that decode images; 0 decodes in a thread of the run. auto is 0 on a CPU, and with a
    GPU one less than the process's share of the cores, up to 16. Order and crops are the same either way."""

    @field_validator("crop_scale")
    @classmethod
    def _check_range(cls, crop_scale: tuple[float, float]) -> tuple[float, float]:
        low, high = crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"must rise from above 0 to at most 1 (got {low}, {high})")
        return crop_scale

    @model_validator(mode="after")
    def _check_prepare(self) -> "DataConfig":
        if self.prepare == "views" and not self.views:
            raise ValueError('prepare = "views" needs fixed views: set data.views to their number, or choose "pixels"')
        return self


class StudentConfig(Config):
    """The student model."""

    model: str = "mini-w64"
    """SPEC of the student: a built-in size, open_clip:NAME[@weights], config:FILE, run:ID or sample:NAME; inherited
    builds it from the teacher as [inheritance] describes."""
    tokenizer: str = ""
    """Tokenizer: words:scenes, words:emoji, bpe, or the path of a Hugging Face tokenizer.json; "" uses the model's
    default."""


def with_scale(values: Any) -> Any:
    """A loss's table with ``temperature`` T replaced by ``scale`` = 1/T, which is what losses are set by.

    Unchanged if the loss is a user's own (``file``), if it has a scale already, or if T is not a positive number: then
    the loss itself reports what is wrong.
    """
    if not isinstance(values, dict) or values.get("file") or "temperature" not in values or "scale" in values:
        return values
    temperature = values["temperature"]
    is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not is_number or not 0 < temperature < math.inf:
        return values
    return {**{key: value for key, value in values.items() if key != "temperature"}, "scale": 1 / temperature}


class LossConfig(Config):
    """One loss. Further keys are the loss's own options; `workbench losses` lists them."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(finite)]]

    weight: Weight = 1.0
    """Coefficient of the loss in the total: a number, or a table of :class:`Schedule`. With 0 the loss is not
    computed."""
    weight_at: Literal["published", "here"] = "published"
    """published: the weight is for the papers' batch size and embedding width and is rescaled to this run's; here: it
    is used unchanged."""
    file: str = ""
    """Python file that defines the loss; "" for a built-in loss."""

    @model_validator(mode="before")
    @classmethod
    def _temperature(cls, values: Any) -> Any:
        return with_scale(values)

    @property
    def schedule(self) -> Schedule:
        """The weight as a function of the step."""
        return self.weight if isinstance(self.weight, Schedule) else Schedule(value=self.weight)

    def options(self) -> dict[str, Any]:
        """The loss's own options."""
        return dict(self.model_extra or {})

    def stretched(self, ratio: float) -> "LossConfig":
        """The same loss in a run ``ratio`` times as long."""
        weight = self.weight
        return self.model_copy(update={"weight": weight.stretched(ratio)}) if isinstance(weight, Schedule) else self


class OptimizerConfig(Config):
    """AdamW; no weight decay on gains, biases and scales."""

    learning_rate: PositiveFloat = 1e-3
    """Peak learning rate, reached at the end of warm-up."""
    weight_decay: float = Field(0.1, ge=0)
    """Decoupled weight decay, applied to weight matrices only."""
    betas: tuple[DecayRate, DecayRate] = (0.9, 0.98)
    """AdamW betas: decay rates of the first and second moment."""
    eps: PositiveFloat = 1e-6
    """AdamW epsilon, added to the square root of the second moment."""
    warmup_fraction: float = Field(0.025, ge=0, le=1)
    """Fraction of the steps spent on linear learning rate warm-up (the papers: 0.025 and 0.027)."""
    clip_norm: float = Field(0.0, ge=0)
    """Maximum norm of the gradient over all trained parameters; 0 does not clip."""


class TrainConfig(Config):
    """Length of training, batch size, precision and device."""

    num_steps: int = Field(600, ge=0)
    """Number of optimizer steps; 0 leaves the student as it is, to be evaluated."""
    batch_size: int = Field(128, ge=2)
    """Pairs per batch; each pair has all other pairs of the batch as negatives."""
    micro_batch_size: CountOrAuto = 0
    """Pairs per micro-batch, whose activations are in memory at once; 0 uses the full batch. auto chooses the most that
    fit on a GPU, by a measurement. The gradient is always that of the full batch; its last bits depend on the size."""
    max_skipped_steps: int = Field(0, ge=0)
    """Number of steps with a non-finite loss or gradient to skip, each with a warning; one more ends the run as
    diverged."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of the towers; auto is bf16 on a GPU that supports it, else fp32, and the resolved value is recorded.
    fp16, with a loss scale, is for GPUs before Ampere. Normalization, logits and losses are always float32."""
    deterministic: bool = False
    """Use only deterministic operators on a GPU, which is slower: repeated or resumed runs are then bit-identical, as
    they always are on a CPU."""
    loss_chunk_size: CountOrAuto = "auto"
    """Rows of the B × B logit matrices in memory at once; 0 is all rows; auto is all rows up to 2,048 pairs and 512
    above."""
    loss_precision: Literal["fp32", "tf32"] = "fp32"
    """Precision of the losses' matrix products; tf32 rounds their embeddings to 10 bits, which a GPU multiplies several
    times faster. It pays for batches of many thousands of pairs; a CPU only rounds. Never measured on a GPU."""
    stacked: Literal["auto", "on", "off"] = "auto"
    """Train members of a cohort with equal shapes as one batched model; auto does so on a GPU (it is slower on a
    CPU)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to train on; auto uses a GPU if available."""


class CurationConfig(Config):
    """Active curation of batches: each is chosen from a larger one by the losses of student and teacher (ACID)."""

    method: Literal["off", "learnability", "easy"] = "off"
    """How pairs are scored: learnability prefers those that the student finds harder than the teacher does, easy those
    that the teacher finds easy; off trains on every pair of the data in turn."""
    drop_ratio: float = Field(0.8, ge=0, lt=1)
    """Fraction of the larger batch that is dropped; train.batch_size pairs are left (ACID: 0.8)."""
    num_chunks: PositiveInt = 16
    """Number of draws that form a batch; each scores the remaining pairs together with those drawn before."""


class EvaluateConfig(Config):
    """Evaluation during training."""

    every_steps: int = Field(0, ge=0)
    """Steps between evaluations on the validation pairs; 0 evaluates only at the end."""
    times: int = Field(0, ge=0)
    """Number of evaluations, evenly spaced, the last at the end; sets every_steps for the run's length."""
    block_size: PositiveInt = 1000
    """Retrieval gallery size: number of images (or captions) that each query is ranked against."""


class LogConfig(Config):
    """Logging, checkpoints and diagnostics."""

    every_steps: PositiveInt = 10
    """Steps between StepDone events in the log."""
    checkpoint_every_steps: int = Field(200, ge=0)
    """Steps between checkpoints; 0 saves only the last."""
    keep_checkpoints: PositiveInt = 2
    """Number of most recent checkpoints to keep on disk."""
    diagnose_every_steps: CountOrAuto = "auto"
    """Steps between measurements of the per-loss gradients, starting at step 1; 0 measures none; auto takes less than
    5 % of the run's time."""


class RunConfig(Config):
    """All settings of a run: everything that determines its outcome, and its logging."""

    recipe: str = "custom"
    """Name of the recipe that these settings came from."""
    question: str = ""
    """The question that the recipe answers, in one line."""
    seed: int = 0
    """Random seed of the initial weights."""
    data: DataConfig = DataConfig()
    student: StudentConfig = StudentConfig()
    teacher: TeacherConfig = TeacherConfig()
    inheritance: InheritanceConfig = InheritanceConfig()
    loss: dict[str, LossConfig] = {"clip": LossConfig()}
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    curation: CurationConfig = CurationConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    dense: DenseConfig = DenseConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="before")
    @classmethod
    def _space_evaluations(cls, values: Any) -> Any:
        """``evaluate.times`` as ``every_steps``, so that runs have one interval, which scales with their length."""
        evaluate, train = (values.get(group, {}) if isinstance(values, dict) else {} for group in ("evaluate", "train"))
        if not (isinstance(evaluate, dict) and isinstance(train, dict)):
            return values
        times, steps = evaluate.get("times", 0), train.get("num_steps", TrainConfig().num_steps)
        # What is no positive number is left to the checks of its own field.
        if any(not isinstance(one, int) or isinstance(one, bool) or one <= 0 for one in (times, steps)):
            return values
        return {**values, "evaluate": {**evaluate, "times": 0, "every_steps": max(1, round(steps / times))}}

    @model_validator(mode="after")
    def _check_inheritance(self) -> "RunConfig":
        inheritance = self.inheritance
        if self.student.model != INHERITED:
            if inheritance != InheritanceConfig():
                raise ValueError(f"[inheritance] is for student.model={INHERITED}: set that, or drop [inheritance]")
            return self
        if not (inheritance.source or self.teacher.model):
            raise ValueError("inherit from which model? Set inheritance.source or teacher.model")
        if not inheritance.source and len(self.teacher.teachers) > 1:
            raise ValueError("a student inherits from one model: set inheritance.source to one of the teachers")
        if self.student.tokenizer:
            raise ValueError("an inherited student keeps its source's tokenizer: drop student.tokenizer")
        if inheritance.stages and inheritance.num_steps != self.train.num_steps:
            raise ValueError(
                f"train.num_steps is {self.train.num_steps}, but the stages of [inheritance] have "
                f"{inheritance.num_steps} together: make them equal, or stretch the recipe with --steps"
            )
        return self

    @model_validator(mode="after")
    def _check_curation(self) -> "RunConfig":
        if self.curation.method == "off":
            return self
        if not self.teacher.model:
            raise ValueError(
                f"curation.method={self.curation.method} scores pairs by the loss of a teacher: name one with "
                "teacher.model, or set curation.method=off"
            )
        if self.curation.num_chunks > self.train.batch_size:
            raise ValueError(
                f"curation.num_chunks is {self.curation.num_chunks}, more than the {self.train.batch_size} pairs of a "
                "batch: lower it"
            )
        return self

    @property
    def pairs_per_step(self) -> int:
        """Pairs that are read for a step: those of a batch, or of the larger one that it is chosen from."""
        if self.curation.method == "off":
            return self.train.batch_size
        return round(self.train.batch_size / (1 - self.curation.drop_ratio))

    def with_seed(self, seed: int) -> "RunConfig":
        """A replicate of the run with another seed for weights, data order, crops and captions."""
        check_bounds({"seed": seed}, "--seed")
        data = self.data.model_copy(update={"seed": seed})
        return self.model_copy(update={"seed": seed, "data": data})

    def with_steps(self, num_steps: int) -> "RunConfig":
        """The same run with another number of steps; evaluation, checkpoint and schedule steps scale in proportion."""
        check_bounds({"steps": num_steps}, "--steps")
        if num_steps < 1:
            raise ValueError(f"--steps must be at least 1 (got {num_steps})")
        if self.train.num_steps == 0:  # a student that is only evaluated
            return self
        ratio = num_steps / self.train.num_steps

        def stretched(group: Config, *names: str) -> Config:
            steps = {name: getattr(group, name) for name in names}
            # 0 and auto stay: they are no number of steps.
            return group.model_copy(
                update={name: max(1, round(n * ratio)) for name, n in steps.items() if n not in (0, "auto")}
            )

        update = {
            "inheritance": self.inheritance.stretched(num_steps),
            "loss": {name: loss.stretched(ratio) for name, loss in self.loss.items()},
            "train": self.train.model_copy(update={"num_steps": num_steps}),
            "evaluate": stretched(self.evaluate, "every_steps"),
            "log": stretched(self.log, "checkpoint_every_steps", "diagnose_every_steps"),
        }
        return self.model_copy(update=update)


def check_candidates(config: RunConfig) -> None:
    """Refuse losses that compare with every training pair in a run whose teacher embeds only the pairs of a batch."""
    cross_modal = config.loss.get("cross_modal")
    if config.teacher.combine == "affinities" and cross_modal and cross_modal.options().get("candidates") == "all":
        raise ValueError(
            "loss.cross_modal.candidates=all has one softmax over every training pair, not one for each teacher: set "
            "teacher.combine=logits, or loss.cross_modal.candidates=batch"
        )
    for name, loss in config.loss.items():
        if loss.file or loss.options().get("candidates") != "all" or not loss.schedule.is_ever_on:
            continue
        lacks = {
            "no teacher": not config.teacher.model,
            "data.views=0": not config.data.views,
            "teacher.cache=off": config.teacher.cache == "off",
        }
        if live := next((reason for reason, is_so in lacks.items() if is_so), ""):
            raise ValueError(
                f"loss.{name}.candidates=all compares with every training pair in the teacher's cache, which a run "
                f"with {live} has not: name a teacher and set data.views=3 and teacher.cache=on, or set "
                f"loss.{name}.candidates=batch"
            )


def check_cacheable(config: RunConfig) -> None:
    """Refuse a teacher cache for a run without a teacher, or with a new view in every epoch."""
    if not config.teacher.model:
        raise ValueError("there is no teacher to cache: name one with --set teacher.model=SPEC")
    if not config.data.views:
        raise ValueError(
            "data.views = 0 makes new views in every epoch, which cannot be cached: fix their number, as in "
            "--set data.views=3, or leave the cache at auto"
        )
