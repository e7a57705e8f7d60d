"""The workbench's own model folder, read by ``workbench.load_student``, for any architecture; and the export check."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.embeddings import Embeddings
from workbench.files import write_atomically
from workbench.models.clip import Clip
from workbench.models.folder import TOKENIZER, load_folder, save_folder
from workbench.models.tokenizers import Tokenizer

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
    """An exported model gives other embeddings than its source."""


@dataclass(frozen=True)
class Probe:
    """Fixed inputs for checking an export (uint8 noise and captions), with the model's unit-length embeddings."""

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
        """The largest absolute difference from the expected embeddings of the first B pairs; may be NaN."""
        expected = self.expected
        pairs = ((image_BD, expected.image_BD), (text_BD, expected.text_BD))
        return max_or_nan([(found - wanted[: len(found)]).abs().max().item() for found, wanted in pairs])


def max_or_nan(values: list[float]) -> float:
    """The largest value, or NaN if there is one."""
    return torch.tensor(values, dtype=torch.float64).max().item()


def checked(difference: float, tolerance: float, reader: str) -> float:
    """``difference``, if within the tolerance.

    Raises:
        MismatchError: it is larger, or NaN.
    """
    if not difference <= tolerance:  # also True for NaN
        raise MismatchError(
            f"as {reader} reads it, the exported unit-length embeddings differ from the model's by {difference:.2g}, "
            f"more than {tolerance:g}: nothing was written; try another --format"
        )
    return difference


TOLERANCE = 1e-6
RULES = {
    "words": (
        "words are the matches of the regular expression \\w+ in the lower-case caption, the first context_length - 1; "
        "an id is 1 + the word's place in the list, counted from 0, or for any other word "
        "1 + len(words) + crc32(its UTF-8) % num_buckets; the end id len(words) + num_buckets + 1 follows, "
        "then 0 up to context_length"
    ),
    "bpe": "CLIP's byte pairs: open_clip.tokenizer.SimpleTokenizer(context_length=context_length)",
}


def write_native(model: Clip, folder: Path, dtype: torch.dtype) -> float:
    """Write a model folder whose ``tokenizer.json`` also describes the tokenizer in words.

    Returns:
        the largest difference between the unit-length embeddings of the reloaded model and the model's.

    Raises:
        MismatchError: it is larger than the tolerance.
    """
    write_model_folder(model, folder, dtype)
    probe, again = Probe.of(model), load_folder(folder).eval()
    with torch.no_grad():
        found = again.embed(probe.image_BCHW, probe.text_BL)
    return checked(probe.difference(found.image_BD, found.text_BD), TOLERANCE, "the workbench")


def write_model_folder(model: Clip, folder: Path, dtype: torch.dtype) -> None:
    """Write the folder without checking it."""
    save_folder(model, folder, dtype)
    write_atomically(folder / TOKENIZER, json.dumps(tokenizer_document(model.tokenizer)) + "\n")


def tokenizer_document(tokenizer: Tokenizer) -> dict[str, Any]:
    """The tokenizer's spec, and how to tokenize without the workbench."""
    return tokenizer.spec | {"rule": RULES[tokenizer.spec["kind"]]}
