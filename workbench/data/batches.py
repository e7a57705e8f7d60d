"""Samples -> batches: a step's batch is a function of the data, the data seed and the step alone.

Shape letters: B pairs of a batch · L tokens · C channels · H, W pixels."""

import os
import random
import signal
from collections.abc import Callable, Generator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from workbench.data.augment import Pixels, crop_box, crop_HWC, stack_BCHW
from workbench.data.dataset import Dataset, Sample
from workbench.data.order import Order, Place
from workbench.data.parallel import look_ahead
from workbench.data.unusable import ImageError
from workbench.embeddings import BadImage, Batch, InputSpec
from workbench.randomness import derive_seed

# Batches made ahead of their use, by a thread or by processes, in pinned memory where there is a GPU.

NUM_BATCHES_AHEAD = 2


def deliver(make: Callable[[int], Batch], steps: range, *, num_workers: int) -> Generator[Batch, None, None]:
    """``map(make, steps)``, ahead of the consumer. Closing the iterator ends its thread or its processes.

    Args:
        make: the batch of a step, from nothing but the step; picklable where processes are spawned.
        steps: the steps, in order.
        num_workers: processes; 0 for one thread, which is enough where decoding is quicker than training.

    Raises:
        ValueError: as ``make`` raises it, at its place in the order.
    """
    pin = torch.cuda.is_available()
    if num_workers:
        return _from_workers(make, steps, num_workers, pin)
    return look_ahead(
        lambda step: pinned(make(step)) if pin else make(step), steps, num_threads=1, depth=NUM_BATCHES_AHEAD
    )


def pinned(batch: Batch) -> Batch:
    """The same batch where a GPU can fetch it in the background; shared tensors stay shared."""
    done: dict[int, Tensor] = {}

    def pin(tensor: Tensor) -> Tensor:
        if id(tensor) not in done:
            done[id(tensor)] = tensor.pin_memory()
        return done[id(tensor)]

    return replace(
        batch,
        student_image_BCHW=pin(batch.student_image_BCHW),
        student_text_BL=pin(batch.student_text_BL),
        teacher_image_BCHW=None if batch.teacher_image_BCHW is None else pin(batch.teacher_image_BCHW),
        teacher_text_BL=None if batch.teacher_text_BL is None else pin(batch.teacher_text_BL),
    )


@dataclass(frozen=True)
class _Parcel:
    """What a process hands over: a batch, or the line for people that stands in its place.

    An exception would arrive wrapped in the process's traceback, which is no line for people.
    """

    batch: Batch | None = None
    error: str = ""

    def pin_memory(self) -> "_Parcel":
        """Called by the DataLoader's pinning thread."""
        return self if self.batch is None else _Parcel(pinned(self.batch))


@dataclass(frozen=True)
class _Steps(TorchDataset[_Parcel]):
    """Steps as the DataLoader's samples, so that it decides nothing about order or content."""

    make: Callable[[int], Batch]

    def __getitem__(self, step: int) -> _Parcel:
        try:
            return _Parcel(self.make(step))
        except ValueError as error:
            return _Parcel(error=str(error))


def _from_workers(
    make: Callable[[int], Batch], steps: range, num_workers: int, pin: bool
) -> Generator[Batch, None, None]:
    # batch_size=None: a step is already a whole batch. With a generator of its own the DataLoader does not
    # draw its base seed from torch's global one. Its processes end with the loop below, however it is left.
    loader = DataLoader(
        _Steps(make),
        sampler=steps,
        batch_size=None,
        num_workers=min(num_workers, max(1, len(steps))),
        pin_memory=pin,
        worker_init_fn=_leave_signals_to_the_run,
        generator=torch.Generator(),
    )
    for parcel in loader:
        if parcel.batch is None:
            raise ValueError(parcel.error)
        yield parcel.batch


def _leave_signals_to_the_run(_worker: int) -> None:
    """Signals reach the whole process group, and the run wants to finish its step and save.

    A process that died of one would raise in the middle of that: it stays through Ctrl-C, SIGHUP and SIGUSR1, and
    leaves quietly at SIGTERM.
    """
    for name in ("SIGINT", "SIGHUP", "SIGUSR1"):
        if number := getattr(signal, name, None):  # Windows has only the first
            signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


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
    student: InputSpec
    teacher: InputSpec | None
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
        replaced: list[BadImage] = []
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

    def _usable(self, place: Place, step: int, taken: set[int], replaced: list[BadImage]) -> tuple[int, Sample]:
        """The sample of a place, or one in its stead: drawn by seed, step and key, and if possible not in the batch."""
        try:
            return place.sample, self.dataset[place.sample]
        except ImageError as error:
            replaced.append(BadImage(error.reason, str(error)))
        draws = random.Random(derive_seed(self.seed, "substitute", step, self.dataset.text(place.sample).key))
        for attempt in range(NUM_SUBSTITUTES):
            index = place.source.start + draws.randrange(place.source.num_samples)
            if index in taken and attempt < NUM_SUBSTITUTES // 2:
                continue
            try:
                sample = self.dataset[index]
            except ImageError:
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

    def _tokens(self, form: InputSpec, captions: Sequence[str], chosen: Sequence[tuple[int, int]]) -> Tensor:
        """The captions as a model reads them, int64; kept tokens where there are, for samples and their captions."""
        kept = [self.dataset.tokens(index, caption, form.tokenizer_id) for index, caption in chosen]
        rows = [row for row in kept if row is not None]
        if len(rows) < len(kept):
            return form.tokenize(captions)
        return torch.from_numpy(np.stack(rows)).long()
