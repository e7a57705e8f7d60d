"""An evaluation set: all images, evaluation-transformed and in order, with all captions.

Shape letters: N images · M captions · C channels · H, W pixels.
"""

import contextlib
import json
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workbench.data.batches import stack_BCHW
from workbench.data.cached.prepare import CachePolicy, Prepare, cached
from workbench.data.dataset import Dataset, DatasetView, Sample, SampleText, ZeroShotTask
from workbench.data.images import evaluation_HWC
from workbench.data.parallel import each_image, look_ahead
from workbench.data.samples.registry import zero_shot_task
from workbench.data.spec import Role, open_dataset, sample_set_of
from workbench.data.unusable import BadImageCount, BadShards
from workbench.embeddings import CLIPS_RESIZING, BadImage, Resizing
from workbench.files import write_atomically
from workbench.resources import cache_dir

IMAGES_PER_CALL = 32


class EvaluationSet:
    """The images and captions of retrieval and zero-shot classification; images are decoded on demand.

    Attributes:
        num_images: N.
        captions: all captions, in the order of their images.
        caption_image_index_M: int64, index of each caption's image.
        image_group_N: the group of each image; a caption is a positive of every image of its group.
        caption_group_M: the group of each caption's image.
        classes_N: the class of each image; None if any image has none.
        answers_N: the correct classes of each image in zero-shot classification; None if any image has none.
        task: classes and prompts of zero-shot classification; None if the data have no classes.
        note: a message about images that were left out; empty if none were.
        fingerprint: the dataset's fingerprint.
        reading: what was left out when the data were opened.
        is_class_folder: whether captions are class-name prompts, so that zero-shot is the metric that matters.
    """

    def __init__(self, dataset: Dataset, task: ZeroShotTask | None = None, note: str = "") -> None:
        texts = [dataset.text(index) for index in range(len(dataset))]
        labels = [text.label for text in texts if text.label is not None]
        self._dataset = dataset
        self.num_images = len(texts)
        self.captions = [caption for text in texts for caption in text.captions]
        self.caption_image_index_M = torch.tensor(
            [index for index, text in enumerate(texts) for _ in text.captions], dtype=torch.int64
        )
        self.image_group_N = [text.group for text in texts]
        self.caption_group_M = [text.group for text in texts for _ in text.captions]
        self.classes_N = labels if len(labels) == len(texts) else None
        self.answers_N: list[tuple[str, ...]] | None = None
        if task and task.answers:
            answers_N = [task.answers(text) for text in texts]
            self.answers_N = answers_N if all(answers_N) else None
        elif self.classes_N:
            self.answers_N = [(label,) for label in self.classes_N]
        self.task = task
        self.note = note
        self.fingerprint = dataset.fingerprint
        self.reading = dataset.reading
        self.is_class_folder = dataset.task is not None

    def image_chunks(
        self,
        image_size: int,
        chunk: int = 256,
        resizing: Resizing = CLIPS_RESIZING,
        rows: slice = slice(None),
    ) -> Generator[Tensor, None, None]:
        """The images in order, uint8 [n, C, H, W], with n = ``chunk`` except in the last chunk.

        They become squares as in open_clip: see :func:`~workbench.data.images.evaluation_HWC`.

        Args:
            rows: consecutive images to decode; all by default.
        """
        own = range(self.num_images)[rows]
        decode = partial(self._images, image_size, resizing)
        held: list[Tensor] = []
        calls = (own[start : start + IMAGES_PER_CALL] for start in range(0, len(own), IMAGES_PER_CALL))
        for images_nCHW in look_ahead(decode, calls):
            held.extend(images_nCHW)
            while len(held) >= chunk:
                yield torch.stack(held[:chunk])
                del held[:chunk]
        if held:
            yield torch.stack(held)

    def _images(self, image_size: int, resizing: Resizing, indices: Sequence[int]) -> Tensor:
        """Some images, ``IMAGES_PER_CALL`` at most: enough work to outweigh the cost of a task."""
        return stack_BCHW([evaluation_HWC(self._dataset[i].image, image_size, *resizing) for i in indices])


def open_evaluation_set(
    spec: str, role: Role, num_pairs: int = 0, prepare: Prepare = "off", bad_shards: BadShards = "refuse"
) -> EvaluationSet:
    """Opens the evaluation set of a data SPEC; see :func:`~workbench.data.spec.open_dataset`.

    Images that cannot be decoded are left out. Images are never scaled to a working size.

    Args:
        prepare: whether images are decoded once into a store; see ``data.prepare``.
        bad_shards: what to do with shards that are missing or cannot be read; see ``data.bad_shards``.

    Raises:
        ValueError: too many unusable images, or as ``open_dataset``.
    """
    dataset, note = readable(cached(open_dataset(spec, role, num_pairs, bad_shards), CachePolicy(prepare)).dataset)
    name = sample_set_of(spec)
    return EvaluationSet(dataset, zero_shot_task(name) if name else dataset.task, note)


class Subset(DatasetView):
    """Some samples of a dataset, in order. Same fingerprint: it stands for the data without their unusable images."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        super().__init__(dataset)
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[self._indices[index]]

    def text(self, index: int) -> SampleText:
        return self._dataset.text(self._indices[index])

    def encoded(self, index: int) -> bytes:
        return self._dataset.encoded(self._indices[index])

    def tokens(self, index: int, caption: int, tokenizer_id: str) -> npt.NDArray[np.int32] | None:
        return self._dataset.tokens(self._indices[index], caption, tokenizer_id)


def readable(dataset: Dataset) -> tuple[Dataset, str]:
    """The dataset without its unusable images, and a message about them; itself and "" if there are none.

    Every image is decoded once. The indices of unusable ones are cached by the dataset's fingerprint, and only these
    are tried again the next time.

    Raises:
        ValueError: too many are unusable; see :class:`~workbench.data.unusable.BadImageCount`.
    """
    entry = cache_dir() / "readable" / f"{dataset.fingerprint}.json"
    known = _load(entry, len(dataset))
    decoded = each_image(dataset, range(len(dataset)) if known is None else known, lambda _: None)
    broken = {index: found for index, found in decoded if isinstance(found, BadImage)}
    if known is None:
        with contextlib.suppress(OSError):  # not writable: all images are decoded again the next time
            entry.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(entry, json.dumps(list(broken)))
    if not broken:
        return dataset, ""
    tally = BadImageCount()
    tally.add(len(dataset), broken.values())
    tally.check()
    kept = [index for index in range(len(dataset)) if index not in broken]
    return Subset(dataset, kept), f"images that cannot be used are not evaluated: {tally.describe()}"


def _load(entry: Path, num_samples: int) -> list[int] | None:
    """The cached indices of unusable images; None if there are none or the file is damaged."""
    try:
        indices: list[int] = json.loads(entry.read_bytes())
        return indices if all(0 <= index < num_samples for index in indices) else None
    except (OSError, ValueError, TypeError):
        return None
