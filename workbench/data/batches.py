"""Samples -> batches: a step's batch is a function of the data, the data seed and the step alone.

Shape letters: B pairs of a batch · L tokens · C channels · H, W pixels.
"""

import random
from collections.abc import Generator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from workbench.data.augment import Pixels, crop_box, crop_HWC, stack_BCHW
from workbench.data.delivery import deliver
from workbench.data.order import Order, Place
from workbench.data.picture_error import PictureError
from workbench.data.sample import Dataset, Sample
from workbench.embeddings import Batch, InputForm, Replaced
from workbench.randomness import derive_seed

NUM_SUBSTITUTES = 100  # pairs tried in place of one whose picture cannot be used


@dataclass(frozen=True)
class BatchStream:
    """The batches of a run, in the form of the student and of the teacher.

    Every epoch goes through the samples in a new order; see :class:`~workbench.data.order.Order`. Both models see the
    same crop and caption, each at its own resolution and with its own tokens; where their forms agree they share the
    tensors. In place of a pair whose picture cannot be decoded stands another of the same source, and the batch says
    so.

    Args:
        dataset: the samples.
        student: what the student wants to be fed.
        teacher: what the teacher wants to be fed; None without one.
        batch_size: pairs in a batch.
        seed: the data seed; decides order, crops, captions and substitutes.
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
        assert self.order.counts

    @cached_property
    def order(self) -> Order:
        """Which samples each step takes."""
        return Order(self.dataset, self.batch_size, self.seed, self.views)

    def batches(self, start_step: int, end_step: int) -> Generator[Batch, None, None]:
        """The batches of steps ``start_step`` up to, not including, ``end_step``, made ahead of their use.

        Closing the iterator ends the thread or the processes that make them.

        Raises:
            ValueError: as :meth:`batch` does; raised where the batch would come.
        """
        return deliver(self.batch, range(start_step, end_step), num_workers=self.num_workers)

    def batch(self, step: int) -> Batch:
        """The batch of one step, counted from 0.

        Raises:
            ValueError: the data have changed under way, or nothing can be decoded.
        """
        places = self.order.places(step)
        taken = {place.sample for place in places}
        replaced: list[Replaced] = []
        keys, captions = [], []
        chosen: list[tuple[int, int]] = []
        pictures: list[list[Pixels]] = [[] for _ in self._image_sizes]
        for place in places:
            index, sample = self._usable(place, step, taken, replaced)
            caption = self._choose(sample, place.view)
            keys.append(sample.key)
            chosen.append((index, caption))
            captions.append(sample.captions[caption])
            for row, picture in zip(pictures, self._cropped(sample, place.view), strict=True):
                row.append(picture)
        batch = self._in_both_forms(tuple(keys), pictures, captions, chosen)
        indices = tuple(index for index, _ in chosen)
        return replace(batch, indices=indices, views=tuple(place.view for place in places), replaced=tuple(replaced))

    def every_view(self, index: int) -> tuple[Tensor, Tensor]:
        """All K views of one sample as the student is shown them: uint8 [K, C, H, W] and tokens, int64 [K, L].

        Raises:
            PictureError: the picture cannot be decoded.
        """
        sample = self.dataset[index]
        captions = [self._choose(sample, view) for view in range(self.views)]
        pictures = [self._cropped(sample, view)[0] for view in range(self.views)]
        texts = [sample.captions[caption] for caption in captions]
        return stack_BCHW(pictures), self._tokens(self.student, texts, [(index, caption) for caption in captions])

    def _usable(self, place: Place, step: int, taken: set[int], replaced: list[Replaced]) -> tuple[int, Sample]:
        """The sample of a place, or one in its stead: drawn by seed, step and key, and if possible not in the batch."""
        try:
            return place.sample, self.dataset[place.sample]
        except PictureError as error:
            replaced.append(Replaced(error.reason, str(error)))
        draws = random.Random(derive_seed(self.seed, "substitute", step, self.dataset.text(place.sample).key))
        for attempt in range(NUM_SUBSTITUTES):
            index = place.source.start + draws.randrange(place.source.num_samples)
            if index in taken and attempt < NUM_SUBSTITUTES // 2:
                continue
            try:
                sample = self.dataset[index]
            except PictureError:
                continue
            taken.add(index)
            return index, sample
        raise ValueError(
            f"hardly any picture can be used, nor {NUM_SUBSTITUTES} in place of one: {replaced[-1].message}"
        )

    def _choose(self, sample: Sample, view: int) -> int:
        """Which of its captions a view shows."""
        return derive_seed(self.seed, "caption", sample.key, view) % len(sample.captions)

    def _cropped(self, sample: Sample, view: int) -> list[Pixels]:
        """One view of a picture in every size that is wanted."""
        box = crop_box(self.seed, sample.key, view, sample.image.size, self.crop_scale)
        return [crop_HWC(sample.image, size, box) for size in self._image_sizes]

    @property
    def _image_sizes(self) -> tuple[int, ...]:
        """The student's size, then the teacher's if it is another."""
        if self.teacher is None or self.teacher.image_size == self.student.image_size:
            return (self.student.image_size,)
        return (self.student.image_size, self.teacher.image_size)

    def _in_both_forms(
        self,
        keys: tuple[str, ...],
        pictures: list[list[Pixels]],
        captions: Sequence[str],
        chosen: Sequence[tuple[int, int]],
    ) -> Batch:
        images = [stack_BCHW(row) for row in pictures]
        text_BL = self._tokens(self.student, captions, chosen)
        if self.teacher is None:
            return Batch(keys, images[0], text_BL)
        same_tokens = self.teacher.tokenizer_id == self.student.tokenizer_id
        return Batch(
            keys,
            student_image_BCHW=images[0],
            student_text_BL=text_BL,
            teacher_image_BCHW=images[-1],
            teacher_text_BL=text_BL if same_tokens else self._tokens(self.teacher, captions, chosen),
        )

    def _tokens(self, form: InputForm, captions: Sequence[str], chosen: Sequence[tuple[int, int]]) -> Tensor:
        """The captions as a model reads them, int64; kept tokens where there are, for samples and their captions."""
        kept = [self.dataset.tokens(index, caption, form.tokenizer_id) for index, caption in chosen]
        rows = [row for row in kept if row is not None]
        if len(rows) < len(kept):
            return form.tokenize(captions)
        return torch.from_numpy(np.stack(rows)).long()
