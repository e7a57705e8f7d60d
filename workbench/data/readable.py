"""Data without the pictures that cannot be decoded, for measuring, where none can take another's place."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from workbench.data.pictures import each_picture
from workbench.data.sample import Dataset, Sample, SampleText
from workbench.data.unusable import Tally
from workbench.embeddings import Replaced
from workbench.files import write_atomically
from workbench.resources import cache_dir


class Subset(Dataset):
    """Some samples of a data set, in their order."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self._dataset, self._indices = dataset, indices
        self.fingerprint = dataset.fingerprint
        self.describe_like(dataset)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[self._indices[index]]

    def text(self, index: int) -> SampleText:
        return self._dataset.text(self._indices[index])

    def encoded(self, index: int) -> bytes:
        return self._dataset.encoded(self._indices[index])

    def stamp(self) -> str:
        return self._dataset.stamp()


def readable(dataset: Dataset) -> tuple[Dataset, str]:
    """The data set without the pictures that cannot be used, and a line about those; itself and "" if there are none.

    Every picture is decoded once. The broken ones are remembered by the data's fingerprint, and only they are tried
    anew the next time.

    Raises:
        ValueError: too many cannot be used; see :class:`~workbench.data.unusable.Tally`.
    """
    entry = cache_dir() / "readable" / f"{dataset.fingerprint}.json"
    known = _load(entry, len(dataset))
    broken = unusable(dataset, range(len(dataset)) if known is None else known)
    if known is None:
        _store(entry, list(broken))
    if not broken:
        return dataset, ""
    tally = Tally()
    tally.add(len(dataset), broken.values())
    tally.check()
    kept = [index for index in range(len(dataset)) if index not in broken]
    return Subset(dataset, kept), f"pictures that cannot be used are not measured: {tally.describe()}"


def unusable(dataset: Dataset, indices: Sequence[int]) -> dict[int, Replaced]:
    """Those of the samples whose pictures cannot be used."""
    return {index: found for index, found in each_picture(dataset, indices, _nothing) if isinstance(found, Replaced)}


def _nothing(_: Sample) -> None:
    """All that is asked of a picture here is that it can be decoded."""


def _load(entry: Path, num_samples: int) -> list[int] | None:
    """The broken ones of an earlier look; None where there was none, or its note is torn."""
    try:
        indices: list[int] = json.loads(entry.read_bytes())
        return indices if all(0 <= index < num_samples for index in indices) else None
    except (OSError, ValueError, TypeError):
        return None


def _store(entry: Path, indices: list[int]) -> None:
    """Keeps them; where nothing can be written, all images are decoded again the next time."""
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(entry, json.dumps(indices))
