"""Build a teacher cache block by block; a build that was killed continues after its last block.

Shape letters: R pairs of a block · K views · D the teacher's width.
"""

import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workbench.cache.arrays import BlockWriter, allocate, read_digests
from workbench.cache.entries import CacheEstimate
from workbench.cache.identity import digest_of
from workbench.config.run import RunConfig
from workbench.data.batches import BatchStream
from workbench.data.parallel import decoding_threads, look_ahead, or_bad_image
from workbench.data.unusable import BadImageCount
from workbench.data.workers import from_workers
from workbench.embeddings import BadImage
from workbench.engine.device import machine_facts, now_s
from workbench.engine.teacher_cache.manifest import CACHES, MANIFEST, Identity, Manifest
from workbench.engine.teacher_cache.store import TeacherCache, find_cache
from workbench.files import write_atomically
from workbench.models.teacher import Teacher
from workbench.process import folder_lock
from workbench.progress import progress

ROWS_PER_BLOCK = 1024  # at least; a kill loses at most one block
MAX_BLOCKS = 4096
PART_BYTES = 8_000_000  # of images that a process makes at a time; it has up to two such parts in /dev/shm

Views = tuple[Tensor, Tensor]  # images [K, C, H, W] and tokens [K, L] of one pair


class Builder:
    """Builds the cache of one run's teacher and training pairs.

    Args:
        stream: the run's batches; only its pairs, its views and its number of worker processes matter.
    """

    def __init__(self, config: RunConfig, stream: BatchStream, teacher: Teacher) -> None:
        assert stream.views > 0
        self.identity = Identity.of(config, stream.dataset, teacher)
        self._stream = replace(stream, student=teacher.input_spec, teachers=())
        self._teacher = teacher
        self._device = teacher.scale.device
        rows_per_block = max(ROWS_PER_BLOCK, -(-self.identity.num_pairs * self.identity.views // MAX_BLOCKS))
        self.manifest = Manifest(
            identity=self.identity,
            width=teacher.width,
            pairs_per_block=max(1, rows_per_block // self.identity.views),
            data=config.data.train,
            teacher=config.teacher.model,
            machine=machine_facts(self._device),
        )
        self._blocks = self.manifest.blocks
        self.folder = CACHES.folder(digest_of(self.identity))

    def forecast(self) -> tuple[CacheEstimate, bool]:
        """Size, and time of the missing blocks, from one forward on pairs spread over the data.

        Also whether cached rows equal those of a live teacher bit for bit, as far as was tried.

        Raises:
            ValueError: none of these images can be decoded.
        """
        teacher, num_views = self._teacher, self.identity.views
        tried = self._stream.dataset.probed(-(-teacher.chunk_size // num_views))
        start = time.perf_counter()
        seen = [self._views(index) for index in tried]
        decode_s = (time.perf_counter() - start) / len(tried) / decoding_threads()
        views = [one for one in seen if not isinstance(one, BadImage)]
        if not views:
            raise ValueError(f"none of {len(seen)} images can be used, such as {seen[0]}")
        images, texts = (torch.cat(some)[: teacher.chunk_size].to(self._device) for some in zip(*views, strict=True))
        is_position_independent = teacher.is_position_independent(images, texts)
        start_s = now_s(self._device)
        teacher.embed(images, texts)
        forward_s = now_s(self._device) - start_s
        num_pairs = sum(len(self._blocks[number]) for number in self.missing())
        pair_s = decode_s + forward_s * num_views / teacher.chunk_size
        return CacheEstimate(self.manifest.size_bytes, num_pairs * pair_s), is_position_independent

    def missing(self) -> list[int]:
        """The blocks that are not computed yet."""
        with suppress(OSError, ValueError):
            started = CACHES.read(self.folder)
            if (started.identity, started.blocks) == (self.identity, self._blocks):
                digests = read_digests(self.folder, self._blocks)
                return [number for number, digest in enumerate(digests) if not digest]
        return list(range(len(self._blocks)))

    def build(self, label: str) -> TeacherCache:
        """The complete cache; only missing and damaged blocks are computed.

        If two processes build the same cache, one waits for the other.

        Args:
            label: of the progress bar.

        Raises:
            ValueError: too many bad images, or teacher embeddings that are not finite.
            OSError: the disk is full, or the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with folder_lock(self.folder, "builds the same teacher cache"):
            if cache := find_cache(self.identity):
                with BlockWriter(self.folder, self._blocks) as writer:
                    writer.forget(cache.damaged())
            missing = self.missing()
            if missing:
                allocate(self.folder, self._blocks, keep=len(missing) < len(self._blocks))
                write_atomically(self.folder / MANIFEST, self.manifest.model_dump_json())
                self._write_blocks(missing, label)
        return TeacherCache(self.folder)

    def _write_blocks(self, missing: list[int], label: str) -> None:
        pairs = [index for number in missing for index in self._blocks[number]]
        decoded = self._decoded(pairs)
        shown = progress(decoded, len(pairs), label)
        bad_images = BadImageCount()
        with ExitStack() as files:
            for ending in (decoded, shown):  # closed in reverse: the bar, then the decoding threads
                files.enter_context(closing(ending))
            writer = files.enter_context(BlockWriter(self.folder, self._blocks))
            for number in missing:
                block = [next(shown) for _ in self._blocks[number]]
                writer.write(number, self._embed(block, bad_images).tobytes())

    def _decoded(self, pairs: Sequence[int]) -> Generator[Views | BadImage, None, None]:
        """The views of each pair, decoded ahead: by processes where the run has them, else by threads."""
        stream = self._stream
        if not stream.num_workers:
            return look_ahead(self._views, pairs, depth=4 * decoding_threads())
        pair_bytes = 3 * stream.student.image_size**2 * stream.views
        length = max(1, PART_BYTES // pair_bytes)
        parts = [pairs[start : start + length] for start in range(0, len(pairs), length)]
        made = from_workers(partial(_views_of, stream), parts, min(stream.num_workers, len(parts)))
        return _each(made, stream.views)

    def _views(self, index: int) -> Views | BadImage:
        return or_bad_image(self._stream.every_view, index)

    def _embed(self, block: list[Views | BadImage], bad_images: BadImageCount) -> npt.NDArray[np.generic]:
        """The rows of a block's pairs, [R, K, 2, D]."""
        bad = [one for one in block if isinstance(one, BadImage)]
        bad_images.add(len(block), bad)
        bad_images.check()
        rows = np.full((len(block), self.identity.views, 2, self.manifest.width), np.nan, self.identity.dtype)
        views = [one for one in block if not isinstance(one, BadImage)]
        if views:
            images, texts = (torch.cat(some).to(self._device) for some in zip(*views, strict=True))
            # Views of a pair often share a caption, and so do pairs: embed each distinct one once.
            distinct, which = torch.unique(texts, dim=0, return_inverse=True)
            embedded = torch.stack(
                [self._teacher.embed_image(images), self._teacher.embed_text(distinct)[which]], dim=1
            )
            if not embedded.isfinite().all():
                raise ValueError(f"teacher {self.manifest.teacher} has embeddings that are not finite: name another")
            is_good = [not isinstance(one, BadImage) for one in block]
            rows[is_good] = embedded.cpu().numpy().reshape(len(views), *rows.shape[1:])
        return rows


class _Part(NamedTuple):
    """The views of some pairs in two tensors: each tensor that a process sends back takes a file descriptor."""

    images: Tensor | None  # [pairs · K, C, H, W]; None if all images are bad
    texts: Tensor | None  # [pairs · K, L]
    bad: list[BadImage | None]  # of each pair


def _views_of(stream: BatchStream, indices: Sequence[int]) -> _Part:
    """The views of some pairs, made by a worker process."""
    found = [or_bad_image(stream.every_view, index) for index in indices]
    views = [one for one in found if not isinstance(one, BadImage)]
    images, texts = (torch.cat(some) for some in zip(*views, strict=True)) if views else (None, None)
    return _Part(images, texts, [one if isinstance(one, BadImage) else None for one in found])


def _each(parts: Generator[_Part, None, None], num_views: int) -> Generator[Views | BadImage, None, None]:
    """The pairs of the parts, one after another."""
    with closing(parts):
        for part in parts:
            images = iter(() if part.images is None else torch.split(part.images, num_views))
            texts = iter(() if part.texts is None else torch.split(part.texts, num_views))
            for bad in part.bad:
                yield bad or (next(images), next(texts))
