"""What every loss is: an idea with a name, an equation, a published weight, and arithmetic on a Comparison."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, get_args

from torch import Tensor, nn

from workbench.config.nearest import unknown
from workbench.embeddings import Comparison

Convention = Literal["paper", "released"]

# Published weights belong to this batch size and teacher width (CLIP-KD trains 8 x 128 pairs at D = 512).
REFERENCE_BATCH_SIZE = 1024
REFERENCE_WIDTH = 512


class Loss(ABC):
    """One loss. It holds no parameters; what it learns is made by :meth:`learnt` and kept in the train state.

    Args:
        convention: "paper" follows the paper's equation, "released" its published code; the class says how they differ.

    Raises:
        ValueError: there is no such convention.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    equation: ClassVar[str]
    departure: ClassVar[str] = "none"
    published_weight: ClassVar[dict[Convention, float]]
    needs_teacher: ClassVar[bool] = True

    def __init__(self, convention: Convention = "paper") -> None:
        if convention not in get_args(Convention):
            raise unknown("convention", str(convention), get_args(Convention))
        self.convention = convention

    def learnt(self) -> nn.Module | None:
        """A fresh module of the parameters this loss trains beside the student, or None."""
        return None

    def translation(self, batch_size: int, width: int) -> float:
        """The factor that carries a published weight to this batch size and teacher width (same share of the total)."""
        del batch_size, width
        return 1.0

    @abstractmethod
    def __call__(self, comparison: Comparison) -> Tensor:
        """The loss of one batch, a 0-d tensor, in the unit that the class docstring states."""
