"""Samples -> batches: a step's batch is a function of the data, the data seed and the step alone.

Shape letters: B pairs of a batch · L tokens · C channels · H, W pixels · N samples.
"""

from collections.abc import Generator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from workbench.data.augment import Pixels, crop_box, crop_HWC, stack_BCHW
from workbench.data.delivery import deliver
from workbench.data.sample import Dataset
from workbench.embeddings import Batch, InputForm
from workbench.randomness import derive_seed


@lru_cache(maxsize=2)
def epoch_order(num_samples: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order of the samples in one epoch: a permutation of 0..N-1 that depends on its arguments alone."""
    order_N = np.random.Generator(np.random.PCG64(derive_seed(seed, "order", epoch))).permutation(num_samples)
    order_N.flags.writeable = False
    return order_N


@dataclass(frozen=True)
class BatchStream:
    """The batches of a run, in the form of the student and of the teacher.

    Every epoch goes through the samples in a new order, and leaves out those that do not fill a last batch.
    Both models see the same crop and caption, each at its own resolution and with its own tokens; where
    their forms agree they share the tensors.

    Args:
        dataset: the samples.
        student: what the student wants to be fed.
        teacher: what the teacher wants to be fed; None without one.
        batch_size: pairs in a batch.
        seed: the data seed; decides order, crops and captions.
        views: reproducible views of a sample; epoch e shows view e modulo ``views``. 0: always new ones.
        crop_scale: smallest and largest share of a picture's area that a crop keeps.
        num_workers: processes that make batches; 0 for one thread of this process. Changes no batch.

    Raises:
        ValueError: the data do not fill one batch.
    """

    dataset: Dataset
    student: InputForm
    teacher: InputForm | None
    _: KW_ONLY
    batch_size: int
    seed: int
    views: int = 0
    crop_scale: tuple[float, float] = (0.9, 1.0)
    num_workers: int = 0

    def __post_init__(self) -> None:
        if self.batch_size > len(self.dataset):
            raise ValueError(
                f"a batch of {self.batch_size} needs as many pairs, and the data have {len(self.dataset)}: "
                "lower train.batch_size or give more data"
            )

    @property
    def num_steps_per_epoch(self) -> int:
        """Full batches in one pass through the data."""
        return len(self.dataset) // self.batch_size

    def batches(self, start_step: int, end_step: int) -> Generator[Batch, None, None]:
        """The batches of steps ``start_step`` up to, not including, ``end_step``, made ahead of their use.

        Closing the iterator ends the thread or the processes that make them.

        Raises:
            ValueError: a picture cannot be read or decoded; raised where its batch would come.
        """
        return deliver(self.batch, range(start_step, end_step), num_workers=self.num_workers)

    def batch(self, step: int) -> Batch:
        """The batch of one step, counted from 0.

        Raises:
            ValueError: a picture cannot be read or decoded.
        """
        epoch, place = divmod(step, self.num_steps_per_epoch)
        order_N = epoch_order(len(self.dataset), self.seed, epoch)
        indices = order_N[place * self.batch_size : (place + 1) * self.batch_size].tolist()
        view = epoch % self.views if self.views else epoch

        texts = [self.dataset.text(index) for index in indices]
        captions = [self._choose(text.key, view, text.captions) for text in texts]
        keys = tuple(text.key for text in texts)
        return replace(self._in_both_forms(keys, self._pictures(indices, view), captions), view=view)

    def _choose(self, key: str, view: int, captions: Sequence[str]) -> str:
        return captions[derive_seed(self.seed, "caption", key, view) % len(captions)]

    def _pictures(self, indices: Sequence[int], view: int) -> list[list[Pixels]]:
        """One list of pictures for every size that is wanted; pictures are cropped as they are decoded."""
        sizes = self._image_sizes
        pictures: list[list[Pixels]] = [[] for _ in sizes]
        for index in indices:
            sample = self.dataset[index]
            box = crop_box(self.seed, sample.key, view, sample.image.size, self.crop_scale)
            for size, row in zip(sizes, pictures, strict=True):
                row.append(crop_HWC(sample.image, size, box))
        return pictures

    @property
    def _image_sizes(self) -> tuple[int, ...]:
        """The student's size, then the teacher's if it is another."""
        if self.teacher is None or self.teacher.image_size == self.student.image_size:
            return (self.student.image_size,)
        return (self.student.image_size, self.teacher.image_size)

    def _in_both_forms(self, keys: tuple[str, ...], pictures: list[list[Pixels]], captions: Sequence[str]) -> Batch:
        images = [stack_BCHW(row) for row in pictures]
        text_BL = self.student.tokenize(captions)
        if self.teacher is None:
            return Batch(keys, images[0], text_BL)
        same_tokens = self.teacher.tokenizer_id == self.student.tokenizer_id
        return Batch(
            keys,
            student_image_BCHW=images[0],
            student_text_BL=text_BL,
            teacher_image_BCHW=images[-1],
            teacher_text_BL=text_BL if same_tokens else self.teacher.tokenize(captions),
        )
