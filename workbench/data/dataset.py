"""The protocol ``Dataset``: samples by index, each an image with its captions.

A SPEC becomes a ``Dataset`` in :mod:`workbench.data.spec`, and a ``Dataset`` becomes batches in
:mod:`workbench.data.batches`. This module also lists the forms of a SPEC and checks the paths in one.
"""

import difflib
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from workbench.data.crops import CropSpec, Pixels
from workbench.data.unusable import Reading
from workbench.errors import unknown


@dataclass(frozen=True)
class SampleText:
    """A sample without its image; read from memory."""

    key: str  # unique within its dataset
    captions: tuple[str, ...]  # at least one, none of them blank
    group: str  # pairs of one group are positives of each other; the key if the data have no groups
    label: str | None  # the class, if the data have classes
    num_synthetic: int = field(default=0, kw_only=True)  # of the captions: the last ones, which a model has written
    synthetic: tuple[str, ...] = field(default=(), kw_only=True)  # more of these, which are not captions yet


@dataclass(frozen=True)
class Sample(SampleText):
    """An image (mode RGB, upright) with its captions."""

    image: Image.Image


class Source(NamedTuple):
    """A contiguous range of samples with its share of every batch; a mixture has one per part."""

    start: int
    num_samples: int
    ratio: float  # relative to the other sources


def spread(total: int, count: int) -> list[int]:
    """At most ``count`` evenly spaced integers from 0 to ``total`` - 1."""
    return [int(index) for index in np.unique(np.linspace(0, total - 1, min(count, total)).round())]


class Dataset(Protocol):
    """Samples in a fixed order, readable at random from several threads and processes; picklable.

    Attributes:
        fingerprint: hexadecimal content hash; independent of where the files are.
        name: SPEC, split and number of pairs, as ``open_dataset`` was asked for them; names the dataset's store.
        reading: what was left out when the data were opened.
        task: classes and prompts of zero-shot classification, if captions are made from class names.
    """

    fingerprint: str
    name: str = ""
    reading: Reading = Reading()
    task: "ZeroShotTask | None" = None

    def __len__(self) -> int:
        """Number of samples, at least 1."""

    def __getitem__(self, index: int) -> Sample:
        """Reads and decodes one sample. Raises ``ImageError`` if its image cannot be decoded."""

    def text(self, index: int) -> SampleText:
        """One sample without its image, from memory."""

    def encoded(self, index: int) -> bytes:
        """The image file's bytes. Raises ``ImageError`` if it cannot be read."""

    def stamp(self) -> str:
        """Hexadecimal hash of the size and modification time of every file that holds images.

        ``fingerprint`` reads the content of some files; this checks all of them without reading any.
        """

    @property
    def synthetic_digest(self) -> str:
        """Hexadecimal hash of all synthetic captions; empty if the data have none."""
        return ""

    def tokens(self, index: int, caption: int, tokenizer_id: str) -> npt.NDArray[np.int32] | None:  # noqa: ARG002
        """Cached tokens of one caption, int32 [L]; None if the caller has to tokenize."""
        return None

    def crop(self, index: int, view: int, spec: CropSpec) -> Pixels | None:  # noqa: ARG002
        """Cached training crop of a sample's view, uint8 [H, W, 3]; None if the caller has to crop its image.

        Raises:
            ImageError: the image was unusable when crops were cached.
        """
        return None

    @property
    def shard_sizes(self) -> Sequence[Sequence[int]]:
        """For each source, the number of samples of each shard, in order; none for data without shards."""
        return tuple(() for _ in self.sources)

    def probed(self, count: int) -> Sequence[int]:
        """At most ``count`` indices of images to judge the data by, spread over those that can be read at once."""
        return spread(len(self), count)

    def will_need(self, samples: range) -> None:  # noqa: ARG002
        """Announces that these samples will be read soon, so that their files can be fetched ahead. Does not wait."""
        return

    @property
    def sources(self) -> Sequence[Source]:
        """What every batch is sampled from in a fixed ratio: the parts of a mixture, else the one dataset."""
        return (Source(0, len(self), 1.0),)


class DatasetView(Dataset):
    """Another dataset, of which subclasses change some methods."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.fingerprint = dataset.fingerprint
        self.name, self.reading, self.task = dataset.name, dataset.reading, dataset.task

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[index]

    def text(self, index: int) -> SampleText:
        return self._dataset.text(index)

    def encoded(self, index: int) -> bytes:
        return self._dataset.encoded(index)

    def stamp(self) -> str:
        return self._dataset.stamp()

    def tokens(self, index: int, caption: int, tokenizer_id: str) -> npt.NDArray[np.int32] | None:
        return self._dataset.tokens(index, caption, tokenizer_id)


@dataclass(frozen=True)
class ZeroShotTask:
    """Classes with their aliases, and prompt templates with one `{}` for the class name.

    Prompts are the templates ``verbatim``, as the papers have them, or with an article that suits the name.
    ``num_unnamed`` classes are called by a number or an id, which means nothing to a model.

    Attributes:
        answers: the correct classes of an image by name, any of which counts, or none if unknown; None for its label.
    """

    classes: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]
    verbatim: bool = False
    num_unnamed: int = 0
    answers: Callable[[SampleText], tuple[str, ...]] | None = None

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The label of each class: its first alias, with a number if an earlier class has the same.

        ImageNet has two classes each that open_clip calls "missile" and "sunglasses".
        """
        uses: Counter[str] = Counter()
        labels = []
        for name, *_ in self.classes:
            uses[name] += 1
            labels.append(name if uses[name] == 1 else f"{name} ({uses[name]})")
        return tuple(labels)

    def class_index(self, name: str) -> int:
        """Index of the class with the alias `name`. Raises ValueError with the closest alias if there is none."""
        for index, aliases in enumerate(self.classes):
            if name in aliases:
                return index
        raise unknown("zero-shot class", name, itertools.chain.from_iterable(self.classes))


FORMS = (
    "samples:NAME[/SPLIT], FILE.tar, a folder of .tar files, DIR/{00000..00099}.tar, "
    "https://HOST/{00000..00099}.tar (or s3://, hf://), FILE.csv, FILE.tsv, FILE.txt, "
    "coco:FILE.json@DIR, karpathy:FILE.json[/SPLIT]@DIR, folder:DIR, parquet:PATH[@DIR], "
    "datasets:DIR, or a mixture such as 'SPEC*2 + SPEC*1'"
)


def no_such_path(path: Path) -> ValueError:
    """The error for a missing path, with the closest existing name."""
    searched = "" if path.is_absolute() else f" in {Path.cwd()}"
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    remedy = f"did you mean '{path.parent / close[0]}'?" if close else f"a SPEC is {FORMS}"
    return ValueError(f"no such data '{path}'{searched}: {remedy}")


def existing(text: str, kind: str) -> Path:
    """The path of a "file" or "folder" in a SPEC. Raises ValueError if it does not exist, or is the other kind."""
    path = Path(text).expanduser()
    if not path.exists():
        raise no_such_path(path)
    if not (path.is_dir() if kind == "folder" else path.is_file()):
        raise ValueError(f"'{path}' is not a {kind}: a SPEC is {FORMS}")
    return path
