"""What every data SPEC shares: the forms it may have, and the error for a path that is not there."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from workbench.data.unusable import Reading

# What a data set is: samples by index, each a picture with its captions.


@dataclass(frozen=True)
class SampleText:
    """All of a sample but its picture; cheap to read."""

    key: str  # unique within its data set
    captions: tuple[str, ...]  # at least one, none of them blank
    group: str  # pairs of the same group are true of one another; the key where the data name no group
    label: str | None  # the class, where the data name one


@dataclass(frozen=True)
class Sample(SampleText):
    """A picture (mode RGB, upright) with its captions."""

    image: Image.Image


class Source(NamedTuple):
    """Samples that take turns among themselves: those from ``start`` on, and their part of every batch."""

    start: int
    num_samples: int
    ratio: float


class Dataset(Protocol):
    """Samples in a fixed order, readable at random from several threads and processes; picklable."""

    fingerprint: str
    """Hexadecimal; changes when the content does, not when the files move."""

    reading: Reading = Reading()
    """What was left out when the data were opened."""

    classes: tuple[tuple[str, ...], ...] | None = None
    """Every class with its names, where the data name them; a sample's label is the first name of its class."""

    templates: tuple[str, ...] = ()
    """Prompts for zero-shot classification, each with one ``{}``, where the data name classes."""

    def describe_like(self, other: "Dataset") -> None:
        """Take over what is known of another data set as a whole: this one has its samples, or some of them."""
        self.reading, self.classes, self.templates = other.reading, other.classes, other.templates

    def __len__(self) -> int:
        """How many samples there are; at least one."""

    def __getitem__(self, index: int) -> Sample:
        """Reads and decodes one sample. ``ImageError`` naming it if its picture cannot be decoded."""

    def text(self, index: int) -> SampleText:
        """One sample without its picture, from memory."""

    def encoded(self, index: int) -> bytes:
        """The file of one sample's picture. ``ImageError`` naming it if it cannot be read."""

    def stamp(self) -> str:
        """Hexadecimal; changes when a file that the pictures come from changes its size or time, or is gone.

        It takes a look at every file, where ``fingerprint`` looks into some.
        """

    def tokens(self, index: int, caption: int, tokenizer_id: str) -> npt.NDArray[np.int32] | None:  # noqa: ARG002
        """One of a sample's captions as tokens [L], where they are kept; None where they are to be made."""
        return None

    @property
    def sources(self) -> Sequence[Source]:
        """What every batch is drawn from in a fixed ratio: one source but for a mixture."""
        return (Source(0, len(self), 1.0),)


FORMS = (
    "samples:NAME[/SPLIT], FILE.tar, a folder of .tar files, DIR/{00000..00099}.tar, FILE.csv, FILE.tsv, FILE.txt, "
    "coco:FILE.json@DIR, karpathy:FILE.json[/SPLIT]@DIR, folder:DIR, or a mixture such as 'SPEC*2 + SPEC*1'"
)


def no_such_path(path: Path) -> ValueError:
    """The error for a path that is not there, with the nearest name that is."""
    seen_from = "" if path.is_absolute() else f" in {Path.cwd()}"
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    remedy = f"did you mean '{path.parent / close[0]}'?" if close else f"a SPEC is {FORMS}"
    return ValueError(f"no such data '{path}'{seen_from}: {remedy}")


def existing(text: str, kind: str) -> Path:
    """The path of a "file" or "folder" in a SPEC.

    Raises:
        ValueError: there is nothing, or something else.
    """
    path = Path(text).expanduser()
    if not path.exists():
        raise no_such_path(path)
    if not (path.is_dir() if kind == "folder" else path.is_file()):
        raise ValueError(f"'{path}' is no {kind}: a SPEC is {FORMS}")
    return path
