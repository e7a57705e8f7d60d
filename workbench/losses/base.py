"""What every loss is: an idea with a name, an equation, a published weight, and arithmetic on a Comparison."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from torch import Tensor, nn

from workbench.embeddings import FeatureKey
from workbench.losses.comparison import Comparison
from workbench.losses.declared import check_convention
from workbench.losses.scale import ScaleChoice

Convention = Literal["paper", "released"]

# Published weights belong to this batch size and teacher width (CLIP-KD trains 8 x 128 pairs at D = 512).
REFERENCE_BATCH_SIZE = 1024
REFERENCE_WIDTH = 512


@dataclass(frozen=True)
class Widths:
    """What decides the shapes of learnt parts: embedding widths, and channels of the image towers' blocks by number."""

    student: int
    teacher: int | None = None
    student_blocks: Mapping[int, int] = field(default_factory=dict)
    teacher_blocks: Mapping[int, int] = field(default_factory=dict)


def numbered(channels: Sequence[int]) -> dict[int, int]:
    """The channels of every block by its number, from the start (0, 1, ...) and from the end (-1, -2, ...)."""
    return {number: channels[number] for number in range(-len(channels), len(channels))}


@dataclass(frozen=True)
class Masking:
    """Patches of the student's pictures that are removed, and whether every loss sees what is left, or one alone."""

    ratio: float
    feeds_all: bool = True


@dataclass(frozen=True)
class FeatureRequest:
    """Inner features that a loss compares, the student's first with the teacher's first and so on."""

    student: tuple[FeatureKey, ...]
    teacher: tuple[FeatureKey, ...]


class Loss(ABC):
    """One loss. It holds no parameters; what it learns is made by :meth:`learnt` and kept in the train state.

    A subclass in a file of this folder is a loss of the workbench; one in a file of your own is named by a recipe.

    Args:
        convention: "paper" follows the paper's equation, "released" its published code; the class says how they differ.

    Raises:
        ValueError: there is no such convention.
    """

    name: str = ""
    file: str = ""
    """The Python file of a user's own loss; empty for one of the workbench's."""
    title: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    equation: ClassVar[str] = ""
    departure: ClassVar[str] = "none"
    published_weight: ClassVar[dict[Convention, float]] = {}
    needs_teacher: bool = True
    needs_projection: ClassVar[bool] = True
    """Whether it sets the student's embeddings against the teacher's, and so needs them at one width."""

    scale: ScaleChoice | None = None
    """The temperature of the student's logits, where the loss has one."""
    masking: Masking | None = None
    """Set by a loss that wants patches of the student's pictures removed."""
    features: FeatureRequest | None = None
    """Set by a loss that compares inner features; the teacher is then run live."""

    def __init__(self, convention: Convention = "paper") -> None:
        check_convention(convention, get_args(Convention))
        self.convention = convention

    def learnt(self, widths: Widths) -> nn.Module | None:
        """A fresh module of the parameters this loss trains beside the student, or None."""
        del widths
        return self.scale.learnt() if self.scale else None

    def translation(self, batch_size: int, width: int) -> float:
        """The factor that carries a published weight to this batch size and teacher width (same share of the total)."""
        del batch_size, width
        return 1.0

    def check_weight(self, weight: float) -> None:
        """Raises ValueError for a weight that was meant for another convention."""
        del weight

    def scale_of(self, comparison: Comparison) -> Tensor | float:
        """The scale of the student's logits in this comparison."""
        assert self.scale is not None
        return comparison.scale(self.scale, self.name)

    @abstractmethod
    def __call__(self, comparison: Comparison) -> Tensor:
        """The loss of one batch, a 0-d tensor, in the unit that the class docstring states."""
