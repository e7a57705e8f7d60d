"""Dataset -> batches: a step's batch is a function of the data, the data seed and the step alone.

Shape letters: B pairs of a batch · L tokens · C channels · H, W pixels.
"""

import math
import random
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property, partial
from itertools import chain, count
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from workbench.data.crops import CropSpec, Pixels
from workbench.data.dataset import Dataset, SampleText
from workbench.data.order import BatchRow, Order
from workbench.data.parallel import look_ahead
from workbench.data.synthetic import choose_caption
from workbench.data.unusable import ImageError
from workbench.data.workers import from_workers
from workbench.embeddings import BadImage, Batch, InputSpec, MaskKey, ModelInputs
from workbench.randomness import derive_seed

NUM_BATCHES_AHEAD = 2
# A process makes a part of a batch at a time: whole batches of thousands of photographs would fill /dev/shm.
MAX_PART_ROWS, MAX_PART_BYTES = 256, 40_000_000

Item = TypeVar("Item")


def prefetch(
    make: Callable[[Item], Batch], items: Iterable[Item], *, num_workers: int, num_parts: int = 1
) -> Generator[Batch, None, None]:
    """``map(make, items)``, computed ahead, in pinned memory if there is a GPU. Closing the iterator ends its workers.

    In memory are at most two parts a process, and three whole batches.

    Args:
        make: makes a batch, or a part of one, from its item alone; picklable if processes are spawned. Its ValueError
            is raised at that batch's position.
        num_workers: number of processes; 0 for one thread, enough if decoding is faster than training.
        num_parts: number of successive items whose batches are joined into one.
    """
    parts = from_workers(make, items, num_workers) if num_workers else (make(item) for item in items)
    pin = torch.cuda.is_available()
    is_over = threading.Event()

    def next_batch(_: int) -> Batch | None:
        group: list[Batch] = []
        while len(group) < num_parts and not is_over.is_set() and (part := next(parts, None)) is not None:
            group.append(part)
        return joined(group, pin=pin) if group else None

    batches = look_ahead(next_batch, count(), num_threads=1, depth=NUM_BATCHES_AHEAD)
    try:
        yield from iter(partial(next, batches), None)
    finally:
        is_over.set()  # a batch in the making ends with its current part
        batches.close()
        parts.close()


def joined(parts: Sequence[Batch], *, pin: bool) -> Batch:
    """One batch of all rows of the parts, in pinned memory if asked for; tensors that the models share stay shared."""
    first = parts[0]
    if len(parts) == 1:
        return first.pinned() if pin else first

    def join(tensors: tuple[Tensor, ...]) -> Tensor:
        # Joined where it will be pinned: a copy less of each image.
        shape = (sum(map(len, tensors)), *tensors[0].shape[1:])
        return torch.cat(tensors, out=torch.empty(shape, dtype=tensors[0].dtype, pin_memory=pin))

    whole = map(join, zip(*map(_tensors, parts), strict=True))
    return replace(
        first.mapped(lambda _: next(whole)),
        keys=tuple(chain.from_iterable(part.keys for part in parts)),
        indices=tuple(chain.from_iterable(part.indices for part in parts)),
        views=tuple(chain.from_iterable(part.views for part in parts)),
        replaced=tuple(chain.from_iterable(part.replaced for part in parts)),
    )


def _tensors(batch: Batch) -> list[Tensor]:
    """The tensors of a batch in the order of ``Batch.mapped``, each once."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    batch.mapped(note)
    return found


def stack_BCHW(images_HWC: Sequence[Pixels]) -> Tensor:
    """Images of one size as one uint8 tensor [B, C, H, W]."""
    height, width, channels = images_HWC[0].shape
    # Each into its place: three times as fast as stacking and then permuting.
    images_BCHW = np.empty((len(images_HWC), channels, height, width), np.uint8)
    for image_CHW, image_HWC in zip(images_BCHW, images_HWC, strict=True):
        image_CHW[:] = image_HWC.transpose(2, 0, 1)
    return torch.from_numpy(images_BCHW)


NUM_SUBSTITUTES = 100  # pairs tried instead of one with an unusable image


class Part(NamedTuple):
    """Some rows of a step's batch, which a process makes."""

    step: int
    rows: Sequence[BatchRow]


@dataclass(frozen=True)
class BatchStream:
    """The training batches of a run, for student and teachers.

    Every epoch has a new order; see :class:`~workbench.data.order.Order`. All models get the same crop and caption,
    each at its own resolution and with its own tokens; equal ones are shared tensors. A pair whose image cannot be
    decoded is replaced by another of the same source, and listed in ``Batch.replaced``.

    Args:
        seed: the data seed; determines order, crops, captions and replacements.
        views: number of reproducible views of a sample; epoch e uses view e modulo ``views``. 0: a new view each epoch.
        synthetic_captions: probability that a view has a synthetic caption, where its sample has one.
        crop_scale: smallest and largest share of an image's area that a crop keeps.
        num_workers: processes that make batches; 0 for one thread. Does not change any batch.
        window: samples that are shuffled together; 0 for all.
        masks: makes the masks of a batch from the keys of its pairs and the step; None for one that drops nothing.
        part: the rows of every batch to make, where other ranks make the others; all by default.

    Raises:
        ValueError: the data do not fill one batch.
    """

    dataset: Dataset
    student: InputSpec
    teachers: tuple[InputSpec, ...]
    _: KW_ONLY
    batch_size: int
    seed: int
    views: int = 0
    crop_scale: tuple[float, float] = (0.9, 1.0)
    synthetic_captions: float = 0.0
    num_workers: int = 0
    window: int = 0
    masks: Mapping[MaskKey, Callable[[Sequence[str], int], Tensor | None]] = field(default_factory=dict)
    part: slice = field(default_factory=lambda: slice(None))

    def __post_init__(self) -> None:
        assert self.order.counts  # made now, so that data that do not fill a batch are refused here

    @cached_property
    def order(self) -> Order:
        """The samples and views of each step."""
        return Order(self.dataset, self.batch_size, self.seed, self.views, self.window)

    def batches(self, start_step: int, end_step: int) -> Generator[Batch, None, None]:
        """The batches of steps ``start_step`` to ``end_step`` (exclusive), computed ahead; see :func:`prefetch`."""
        steps = range(start_step, end_step)
        if not (self.num_workers and steps):
            return prefetch(self.batch, self._announced(steps), num_workers=0)
        num_rows = len(range(self.batch_size)[self.part])
        num_parts = max(1, math.ceil(num_rows / self._part_rows))
        # Rows travel with their part: a process need not hold the order, 8 bytes a pair of all data.
        parts = (
            Part(step, rows[start : start + self._part_rows])
            for step in self._announced(steps)
            for rows in [self.order.rows(step)[self.part]]
            for start in range(0, num_parts * self._part_rows, self._part_rows)
        )
        num_workers = min(self.num_workers, num_parts * len(steps))
        return prefetch(self.make_part, parts, num_workers=num_workers, num_parts=num_parts)

    def _announced(self, steps: range) -> Iterator[int]:
        """The steps; before each, the dataset is told what to read ahead."""
        for step in steps:
            for samples in self.order.needed(step, is_first=step == steps.start):
                self.dataset.will_need(samples)
            yield step

    def batch(self, step: int) -> Batch:
        """The batch of one step, from 0.

        Raises:
            ValueError: the files have changed since they were opened, or no image can be decoded.
        """
        return self.make_part(Part(step, self.order.rows(step)[self.part]))

    def make_part(self, part: Part) -> Batch:
        """Some rows of a step's batch, as a batch. Raises ValueError as :meth:`batch` does."""
        replaced: list[BadImage] = []
        keys, captions = [], []
        chosen: list[tuple[int, int]] = []
        crops: list[list[Pixels]] = [[] for _ in self._crop_specs]  # by image size, then by row
        for row in part.rows:
            index, text, cropped = self._view_or_substitute(row, part.step, replaced)
            caption = self.choose(text, row.view)
            keys.append(text.key)
            chosen.append((index, caption))
            captions.append(text.captions[caption])
            for of_size, crop in zip(crops, cropped, strict=True):
                of_size.append(crop)
        batch = self._assemble(tuple(keys), crops, captions, chosen)
        # Made here, ahead of the step: a row takes 30 us, for which the training thread would keep a GPU waiting.
        masks = {key: make(batch.keys, part.step) for key, make in self.masks.items()}
        return replace(
            batch,
            indices=tuple(index for index, _ in chosen),
            views=tuple(row.view for row in part.rows),
            masks={key: kept_BK for key, kept_BK in masks.items() if kept_BK is not None},
            replaced=tuple(replaced),
        )

    def every_view(self, index: int) -> tuple[Tensor, Tensor]:
        """All K views of one sample for the student: uint8 [K, C, H, W] and tokens, int64 [K, L].

        Raises:
            ImageError: the image cannot be decoded.
        """
        text, crops = self._cropped(index, range(self.views))
        captions = [self.choose(text, view) for view in range(self.views)]
        texts = [text.captions[caption] for caption in captions]
        images = stack_BCHW([of_view[0] for of_view in crops])
        return images, self._tokens(self.student, texts, [(index, caption) for caption in captions])

    def _view_or_substitute(
        self, row: BatchRow, step: int, replaced: list[BadImage]
    ) -> tuple[int, SampleText, list[Pixels]]:
        """A row's index, text and crops; if its image is unusable, those of another sample drawn by seed, step and key.

        The first half of the draws skips samples that are in the batch already: a duplicate would be a false negative.
        Other rows' substitutes are not skipped, so that a row does not depend on which rank makes the others.
        """
        views = (row.view,)
        try:
            text, [crops] = self._cropped(row.sample, views)
            return row.sample, text, crops
        except ImageError as error:
            replaced.append(BadImage(error.reason, str(error)))
        in_batch = {other.sample for other in self.order.rows(step)}
        # Seeded by step and key, not by earlier failures: batches do not depend on workers or on resuming.
        draws = random.Random(derive_seed(self.seed, "substitute", step, self.dataset.text(row.sample).key))
        for attempt in range(NUM_SUBSTITUTES):
            index = row.source.start + draws.randrange(row.source.num_samples)
            if index in in_batch and attempt < NUM_SUBSTITUTES // 2:
                continue
            try:
                text, [crops] = self._cropped(index, views)
            except ImageError:
                continue
            return index, text, crops
        raise ValueError(
            f"too many images cannot be used: {NUM_SUBSTITUTES} substitutes failed for {replaced[-1].message}"
        )

    def choose(self, text: SampleText, view: int) -> int:
        """Index of the caption that a sample has in a view."""
        return choose_caption(text, view, self.seed, self.synthetic_captions)

    def _cropped(self, index: int, views: Sequence[int]) -> tuple[SampleText, list[list[Pixels]]]:
        """A sample's text, and the crops of some views, each at all image sizes: cached ones if the dataset has all.

        Raises:
            ImageError: the image cannot be decoded.
        """
        cached = [[self.dataset.crop(index, view, spec) for spec in self._crop_specs] for view in views]
        found = [[crop for crop in of_view if crop is not None] for of_view in cached]
        if all(len(of_view) == len(self._crop_specs) for of_view in found):
            return self.dataset.text(index), found
        sample = self.dataset[index]
        crops = [[spec.cropped_HWC(sample.image, sample.key, view) for spec in self._crop_specs] for view in views]
        return sample, crops

    @property
    def _part_rows(self) -> int:
        row_bytes = sum(3 * spec.image_size**2 for spec in self._crop_specs)
        return max(1, min(MAX_PART_ROWS, MAX_PART_BYTES // row_bytes))

    @cached_property
    def _crop_specs(self) -> tuple[CropSpec, ...]:
        """The student's crops, then those of teachers with other sizes."""
        sizes = [form.image_size for form in (self.student, *self.teachers)]
        return tuple(CropSpec(seed=self.seed, scale=self.crop_scale, image_size=size) for size in dict.fromkeys(sizes))

    def _assemble(
        self,
        keys: tuple[str, ...],
        crops: list[list[Pixels]],
        captions: Sequence[str],
        chosen: Sequence[tuple[int, int]],
    ) -> Batch:
        images = {spec.image_size: stack_BCHW(row) for spec, row in zip(self._crop_specs, crops, strict=True)}
        texts: dict[str, Tensor] = {}  # by tokenizer: models with equal ones share the tensor
        for form in (self.student, *self.teachers):
            if form.tokenizer_id not in texts:
                texts[form.tokenizer_id] = self._tokens(form, captions, chosen)
        inputs = [ModelInputs(images[form.image_size], texts[form.tokenizer_id]) for form in self.teachers]
        student = self.student
        return Batch(keys, images[student.image_size], texts[student.tokenizer_id], tuple(inputs))

    def _tokens(self, form: InputSpec, captions: Sequence[str], chosen: Sequence[tuple[int, int]]) -> Tensor:
        """Tokens of the captions, int64 [B, L]: cached ones if the dataset has them for all pairs."""
        kept = [self.dataset.tokens(index, caption, form.tokenizer_id) for index, caption in chosen]
        rows = [row for row in kept if row is not None]
        if len(rows) < len(kept):
            return form.tokenize(captions)
        return torch.from_numpy(np.stack(rows)).long()
