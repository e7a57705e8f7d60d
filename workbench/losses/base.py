"""The base class of all losses, and of those whose target is the teacher's logits."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor, nn

from workbench.embeddings import FeatureKey, Modality
from workbench.losses.comparison import Comparison
from workbench.losses.declared import check_convention
from workbench.losses.logits import Logits, MeanTarget
from workbench.losses.scale import INITIAL_SCALE, ScaleChoice

Convention = Literal["paper", "released"]

# Batch size and teacher width for which weights were published (CLIP-KD trains on 8 x 128 pairs at D = 512).
REFERENCE_BATCH_SIZE = 1024
REFERENCE_WIDTH = 512
TINYCLIP_SCALE = 50.0  # 1/τ of both models, TinyCLIP's Table 8


@dataclass(frozen=True)
class Widths:
    """Sizes that learned parts depend on: embedding widths, and the channels of the image towers' blocks by number."""

    student: int
    teacher: int | None = None
    student_blocks: Mapping[int, int] = field(default_factory=dict)
    teacher_blocks: Mapping[int, int] = field(default_factory=dict)


def numbered(channels: Sequence[int]) -> dict[int, int]:
    """Block channels by block number, from the start (0, 1, ...) and from the end (-1, -2, ...)."""
    return {number: channels[number] for number in range(-len(channels), len(channels))}


@dataclass(frozen=True)
class Masking:
    """Patch masking of the student's images: the share removed, and whether every loss uses the masked embeddings."""

    ratio: float
    feeds_all: bool = True


@dataclass(frozen=True)
class FeatureRequest:
    """Image-tower features that a loss compares, the first of the student with the first of the teacher, and so on."""

    student: tuple[FeatureKey, ...]
    teacher: tuple[FeatureKey, ...]


class Loss(ABC):
    """Base class of a loss. It holds no parameters: :meth:`learned` creates them, and the train state keeps them.

    A subclass in a file of this folder is registered under its ``name``; one in a user's file is named by a recipe.

    Args:
        convention: "paper" follows the paper's equation, "released" its published code; ``departure`` says how they
            differ.
    """

    name: str = ""
    file: str = ""
    """The Python file of a user's loss; empty for a built-in one."""
    file_sha256: str = ""
    """Hex SHA-256 of that file when it was loaded."""
    title: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    equation: ClassVar[str] = ""
    departure: ClassVar[str] = "none"
    published_weight: ClassVar[dict[Convention, float]] = {}
    needs_teacher: bool = True
    needs_projection: ClassVar[bool] = True
    """Whether it compares student with teacher embeddings directly, and so needs both at the teacher's width."""

    scale: ScaleChoice | None = None
    """The scale of the student's logits, if the loss has one."""
    masking: Masking | None = None
    """Set by a loss that removes patches of the student's images."""
    needs_bias: bool = False
    """Whether it uses the learned bias of the student's logits, ``comparison.student.bias``."""
    features: FeatureRequest | None = None
    """Set by a loss that compares image-tower features; the teacher then runs live, not from the cache."""
    candidates: str = "batch"
    """What an anchor is compared with: the pairs of its batch, or the teacher's embeddings of "all" training pairs."""

    def __init__(self, convention: Convention = "paper") -> None:
        check_convention(convention)
        self.convention = convention

    def learned(self, widths: Widths) -> nn.Module | None:
        """A new module with the parameters that this loss trains, or None. A user's loss may override it."""
        del widths
        return self.scale.learned() if self.scale else None

    def translation(self, batch_size: int, width: int) -> float:
        """The factor that converts a published weight to this batch size and teacher width."""
        del batch_size, width
        return 1.0

    def check_weight(self, weight: float) -> None:
        """Raise ValueError for a weight that was meant for the other convention."""
        del weight

    def scale_of(self, comparison: Comparison) -> Tensor | float:
        """The scale of the student's logits, positive: 0-d, or a number."""
        assert self.scale is not None
        return comparison.scale(self.scale, self.name)

    @abstractmethod
    def __call__(self, comparison: Comparison) -> Tensor:
        """The loss of one batch, a 0-d tensor, in the unit that the class docstring states."""


class TargetLoss(Loss):
    """Compares the student's logits with the teacher's, each at its own learned scale (CLIP-KD).

    Args:
        scale, teacher_scale: 1/τ of the student's and of the teacher's logits.
    """

    own_scale_starts_at: ClassVar[float] = INITIAL_SCALE

    def __init__(
        self, convention: Convention = "paper", scale: float | str = "student", teacher_scale: float | str = "teacher"
    ) -> None:
        super().__init__(convention)
        self.scale = ScaleChoice(scale, initial=self.own_scale_starts_at)
        self.teacher_scale = ScaleChoice(teacher_scale)
        if self.teacher_scale.source in ("own", "student"):  # a target is a constant
            raise ValueError("teacher_scale cannot be learned: use a number, 'teacher' or '1.5 x teacher'")

    def target(
        self, comparison: Comparison, rows: Modality = "image", columns: Modality = "text"
    ) -> Logits | MeanTarget:
        """The teacher's logits, [B, B]; of several teachers whose softmaxes are averaged, those of each."""
        if members := comparison.embeddings("teacher").members:
            own = [comparison.member_logits(member, rows, columns, self.teacher_scale) for member in members]
            return MeanTarget(own, [member.weight for member in members])
        return comparison.logits(("teacher", rows), ("teacher", columns), comparison.scale(self.teacher_scale))


class MimickingLoss(TargetLoss):
    """Compares both models at the fixed scale 50 (TinyCLIP); a learned scale starts there."""

    own_scale_starts_at: ClassVar[float] = TINYCLIP_SCALE

    def __init__(
        self,
        convention: Convention = "paper",
        scale: float | str = TINYCLIP_SCALE,
        teacher_scale: float | str = TINYCLIP_SCALE,
    ) -> None:
        super().__init__(convention, scale, teacher_scale)
