"""Pictures with all their captions, in order and as the evaluation transform shows them.

Shape letters: N pictures · M captions · C channels · H, W pixels.
"""

import os
from collections.abc import Generator
from functools import partial

import torch
from torch import Tensor

from workbench.data.augment import evaluation_HWC, stack_BCHW
from workbench.data.cached.prepare import Prepare, Use, open_prepared
from workbench.data.dataset import Dataset
from workbench.data.parallel import look_ahead
from workbench.data.samples.registry import zero_shot_task
from workbench.data.samples.sample import ZeroShotTask
from workbench.data.sources.folder import class_task
from workbench.data.sources.tar import BadShards
from workbench.data.spec import Role, sample_set_of
from workbench.data.survey import readable

MAX_THREADS = 8
IMAGES_PER_CALL = 32


class EvaluationSet:
    """A data set as retrieval and zero-shot classification use it; pictures are decoded when asked for.

    Attributes:
        num_images: N.
        captions: all captions, in the order of their pictures.
        caption_image_index_M: int64, the picture of each caption.
        image_group_N: the group of each picture; a caption is true of every picture of its group.
        caption_group_M: the group of each caption's picture.
        classes_N: the class of each picture; None if any has none.
        task: the classes and prompts of zero-shot classification; None where the data name no classes.
        note: what a person should know of the pictures that were left out; empty if none was.
        fingerprint: that of the data.
        reading: what was left out when they were opened.
        is_class_folder: whether the captions are prompts with a class name, so that zero-shot is what one looks at.
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
        self.task = task
        self.note = note
        self.fingerprint = dataset.fingerprint
        self.reading = dataset.reading
        self.is_class_folder = dataset.classes is not None

    def image_chunks(self, image_size: int, chunk: int = 256) -> Generator[Tensor, None, None]:
        """The pictures in order, uint8 [n, C, H, W] with n = ``chunk`` but for the last.

        The shorter side is resized to ``image_size`` (bicubic) and the centre square kept, as open_clip does.

        Raises:
            ValueError: a picture cannot be read or decoded.
        """
        num_threads = min(MAX_THREADS, os.cpu_count() or 1)
        starts = range(0, self.num_images, IMAGES_PER_CALL)
        decode = partial(self._images, image_size)
        held: list[Tensor] = []
        for images_nCHW in look_ahead(decode, starts, num_threads=num_threads, depth=2 * num_threads):
            held.extend(images_nCHW)
            while len(held) >= chunk:
                yield torch.stack(held[:chunk])
                del held[:chunk]
        if held:
            yield torch.stack(held)

    def _images(self, image_size: int, start: int) -> Tensor:
        """The pictures from ``start`` on, enough of them for a thread to be worth its cost."""
        end = min(start + IMAGES_PER_CALL, self.num_images)
        return stack_BCHW([evaluation_HWC(self._dataset[i].image, image_size) for i in range(start, end)])


def open_evaluation_set(
    spec: str, role: Role, num_pairs: int = 0, prepare: Prepare = "off", bad_shards: BadShards = "refuse"
) -> EvaluationSet:
    """The evaluation set that a data SPEC names; see :func:`~workbench.data.spec.open_dataset`.

    Pictures that cannot be decoded are left out. They are never scaled to a working size.

    Args:
        prepare: whether they are decoded once for all students; see ``data.prepare``.
        bad_shards: what to do with shards that are missing or cannot be read; see ``data.bad_shards``.

    Raises:
        ValueError: they are too many, besides what is wrong with the SPEC.
    """
    dataset, note = readable(open_prepared(spec, role, num_pairs, Use(prepare, bad_shards=bad_shards)).dataset)
    name = sample_set_of(spec)
    return EvaluationSet(dataset, zero_shot_task(name) if name else class_task(dataset), note)
