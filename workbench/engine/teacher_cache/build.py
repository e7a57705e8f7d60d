"""Build a teacher cache block by block; a build that was killed continues after its last block.

Shape letters: R pairs of a block · K views · D the teacher's width.
"""

import os
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workbench.config.run import RunConfig
from workbench.data.batches import BatchStream
from workbench.data.cached.writer import num_threads
from workbench.data.parallel import look_ahead
from workbench.data.sources.files import spread
from workbench.data.unusable import BadImageCount, ImageError
from workbench.embeddings import BadImage
from workbench.engine.device import machine_facts, now_s
from workbench.engine.teacher_cache.identity import Identity
from workbench.engine.teacher_cache.store import (
    DIGEST_BYTES,
    DIGESTS,
    MANIFEST,
    ROWS,
    Manifest,
    TeacherCache,
    find_cache,
    place_of,
    read_digests,
)
from workbench.files import FULL, DiskFullError, write_atomically
from workbench.formatting import duration, size
from workbench.models.teacher import Teacher
from workbench.process import folder_lock, free_bytes
from workbench.progress import progress

ROWS_PER_BLOCK = 1024  # at least; a kill loses at most one block
MAX_BLOCKS = 4096

Views = tuple[Tensor, Tensor]  # images [K, C, H, W] and tokens [K, L] of one pair


@dataclass(frozen=True)
class CacheForecast:
    """Bytes of a cache on disk, and seconds to compute the missing blocks.

    ``is_place_free``: whether cached rows equal those of a live teacher bit for bit, as far as was tried.
    """

    size_bytes: int
    time_s: float
    is_place_free: bool

    def __str__(self) -> str:
        return f"{size(self.size_bytes)}, about {duration(self.time_s)}"


class Builder:
    """Builds the cache of one run's teacher and training pairs.

    Args:
        stream: the run's batches; only its pairs and views matter.
    """

    def __init__(self, config: RunConfig, stream: BatchStream, teacher: Teacher) -> None:
        assert stream.views > 0
        self.identity = Identity.of(config, stream.dataset, teacher)
        self._stream = replace(stream, student=teacher.form, teacher=None)
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
        self.folder = place_of(self.identity)

    def forecast(self) -> CacheForecast:
        """Size and time, from one forward on pairs spread over the data.

        Raises:
            ValueError: none of these images can be decoded.
        """
        manifest, teacher = self.manifest, self._teacher
        tried = spread(self.identity.num_pairs, -(-teacher.chunk_size // self.identity.views))
        start = time.perf_counter()
        seen = [self._views(index) for index in tried]
        decode_s = (time.perf_counter() - start) / len(tried) / num_threads()
        views = [one for one in seen if not isinstance(one, BadImage)]
        if not views:
            raise ValueError(f"none of {len(seen)} images can be used, such as {seen[0]}")
        images, texts = (torch.cat(some)[: teacher.chunk_size].to(self._device) for some in zip(*views, strict=True))
        is_place_free = teacher.is_place_free(images, texts)
        start_s = now_s(self._device)
        teacher.embed(images, texts)
        forward_s = now_s(self._device) - start_s
        num_pairs = sum(len(manifest.block(number)) for number in self.missing())
        pair_s = decode_s + forward_s * self.identity.views / teacher.chunk_size
        return CacheForecast(manifest.size_bytes, num_pairs * pair_s, is_place_free)

    def missing(self) -> list[int]:
        """The blocks that are not computed yet."""
        try:
            started = Manifest.model_validate_json((self.folder / MANIFEST).read_bytes())
            digests = read_digests(self.folder, started)
        except (OSError, ValueError):
            return list(range(self.manifest.num_blocks))
        is_same = _layout(started) == _layout(self.manifest)
        return [number for number, digest in enumerate(digests) if not (is_same and digest)]

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
            self._forget_damaged()
            missing = self.missing()
            if missing:
                self._lay_out()
                self._write_blocks(missing, label)
        return TeacherCache(self.folder)

    def _forget_damaged(self) -> None:
        cache = find_cache(self.identity)
        damaged = cache.damaged() if cache else []
        if damaged:
            with (self.folder / DIGESTS).open("r+b") as digests:
                for number in damaged:
                    _write(digests, bytes(DIGEST_BYTES), number * DIGEST_BYTES)

    def _lay_out(self) -> None:
        """Create the files at full size, so that a full disk fails now; blocks of a killed build stay."""
        path, num_bytes = self.folder / ROWS, self.manifest.size_bytes
        allocated = path.stat().st_blocks * 512 if path.exists() else 0  # POSIX: units of 512 bytes
        if len(self.missing()) == self.manifest.num_blocks:
            (self.folder / DIGESTS).unlink(missing_ok=True)
        if free_bytes(self.folder) < num_bytes - allocated:
            raise DiskFullError(path, num_bytes - allocated)
        try:
            with path.open("ab") as rows:
                os.truncate(rows.fileno(), num_bytes)
                if hasattr(os, "posix_fallocate"):  # not on macOS
                    os.posix_fallocate(rows.fileno(), 0, num_bytes)
        except OSError as error:
            if error.errno in FULL:
                raise DiskFullError(path, num_bytes) from None
            raise
        write_atomically(self.folder / MANIFEST, self.manifest.model_dump_json())

    def _write_blocks(self, missing: list[int], label: str) -> None:
        pairs = [index for number in missing for index in self.manifest.block(number)]
        threads = num_threads()
        decoded = look_ahead(self._views, pairs, num_threads=threads, depth=4 * threads)
        shown = progress(decoded, len(pairs), label)
        bad_images = BadImageCount()
        (self.folder / DIGESTS).touch()
        with ExitStack() as files:
            for ending in (decoded, shown):  # closed in reverse: the bar, then the decoding threads
                files.enter_context(closing(ending))
            rows, digests = (files.enter_context((self.folder / name).open("r+b")) for name in (ROWS, DIGESTS))
            for number in missing:
                block = self.manifest.block(number)
                content = self._embed([next(shown) for _ in block], bad_images).tobytes()
                _write(
                    rows, content, block.start * self.manifest.pair_bytes
                )  # before its digest: a kill in between leaves the block missing
                _write(digests, sha256(content).digest(), number * DIGEST_BYTES)

    def _views(self, index: int) -> Views | BadImage:
        try:
            return self._stream.every_view(index)
        except ImageError as error:
            return BadImage(error.reason, str(error))

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


def _layout(manifest: Manifest) -> tuple[object, ...]:
    return manifest.identity, manifest.width, manifest.pairs_per_block


def _write(file: BinaryIO, content: bytes, offset: int) -> None:
    """Write and fsync."""
    file.seek(offset)
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
