"""Pictures at a working size: scaled down once before they are cropped, so that large ones take less room and time.

That changes what a crop shows a little, and so is a setting of its own (``data.working_size``), applied whether the
pictures are prepared or decoded live. Without it, and for pictures that are no larger, crops are those of the original.
"""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import numpy.typing as npt
from PIL import Image

from workbench.data.sample import Dataset, Sample, SampleText


class Scaled(Dataset):
    """A data set whose pictures' shorter sides are at most ``working_size`` pixels."""

    def __init__(self, dataset: Dataset, working_size: int) -> None:
        assert working_size > 0
        self._dataset, self._working_size = dataset, working_size
        self.fingerprint = sha256(f"{dataset.fingerprint} {working_size}".encode()).hexdigest()
        self.describe_like(dataset)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        """Reads, decodes and scales one sample; see :class:`~workbench.data.sample.Dataset`."""
        sample = self._dataset[index]
        return replace(sample, image=scaled(sample.image, self._working_size))

    def text(self, index: int) -> SampleText:
        """One sample without its picture."""
        return self._dataset.text(index)

    def encoded(self, index: int) -> bytes:
        """The picture's file, which is not scaled."""
        return self._dataset.encoded(index)

    def stamp(self) -> str:
        """That of the data that are scaled."""
        return self._dataset.stamp()

    def tokens(self, index: int, caption: int, tokenizer_id: str) -> npt.NDArray[np.int32] | None:
        """Those of the data that are scaled."""
        return self._dataset.tokens(index, caption, tokenizer_id)


def at_working_size(dataset: Dataset, working_size: int) -> Dataset:
    """The data with pictures of that size at most; as they are where it is 0."""
    return Scaled(dataset, working_size) if working_size else dataset


def scaled(image: Image.Image, working_size: int) -> Image.Image:
    """The picture with its shorter side at ``working_size`` pixels (bicubic, antialiased); itself if it is no longer.

    The longer side is rounded, so that the picture keeps its shape to half a pixel.
    """
    shorter = min(image.size)
    if shorter <= working_size:
        return image
    width, height = (max(1, round(side * working_size / shorter)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)
