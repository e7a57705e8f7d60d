"""Fixed pictures and captions on which an export is compared with the model it came from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.embeddings import Embeddings
from workbench.models.clip import Clip

CAPTIONS = (
    "",
    "a photo of a dog",
    "two red circles left of a blue square",
    "Łódź, 42 %!",
    "word " * 100,
    "a",
    "small green triangle",
    "THE SAME TWICE, THE SAME TWICE",
)
BATCH_SIZES = (1, 3, len(CAPTIONS))


class MismatchError(RuntimeError):
    """What was written does not give the embeddings of the model it came from."""


@dataclass(frozen=True)
class Probe:
    """uint8 noise and captions for one model, with the unit-length embeddings that it gives them."""

    image_BCHW: Tensor
    text_BL: Tensor
    expected: Embeddings

    @classmethod
    @torch.no_grad()
    def of(cls, model: Clip) -> "Probe":
        """The probe of a model in evaluation mode."""
        shape = (len(CAPTIONS), 3, model.image_size, model.image_size)
        image = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        text = model.tokenizer(CAPTIONS)
        return cls(image, text, model.embed(image, text))

    def difference(self, image_BD: Tensor, text_BD: Tensor) -> float:
        """The largest difference between any two numbers, for the first B of the probe's pairs; may be NaN."""
        expected = self.expected
        pairs = ((image_BD, expected.image_BD), (text_BD, expected.text_BD))
        return max_or_nan([(found - wanted[: len(found)]).abs().max().item() for found, wanted in pairs])


def max_or_nan(values: list[float]) -> float:
    """The largest value, NaN if there is one among them."""
    return torch.tensor(values, dtype=torch.float64).max().item()


def checked(difference: float, tolerance: float, reader: str) -> float:
    """The difference, if it is tolerated.

    Raises:
        MismatchError: it is larger, or no number.
    """
    if not difference <= tolerance:
        raise MismatchError(
            f"as {reader} reads it, the export's unit-length embeddings differ from the model's by {difference:.2g}, "
            f"more than {tolerance:g}: nothing was written; try another --format"
        )
    return difference
