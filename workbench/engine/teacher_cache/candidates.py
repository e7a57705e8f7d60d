"""The candidates of a run's losses: the cached embeddings of every training pair, in the views of a batch.

Shape letters: N training pairs, C pairs of a block, P known matches.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from workbench.data.batches import BatchStream
from workbench.data.known_matches import CaptionsInViews, Integers, KnownMatches
from workbench.embeddings import Embeddings, Modality, onto
from workbench.engine.teacher_cache.store import JoinedCaches, TeacherCache
from workbench.engine.teacher_outputs import fits_in_memory
from workbench.losses.blocks import block_rows
from workbench.losses.candidates import Block, Candidates, Matches

BLOCK_ROWS = 4096  # candidates compared at once

Read = tuple[Tensor, Embeddings]  # numbers of pairs, [C], and their embeddings


class CandidatePairs:
    """Makes the candidates of each batch.

    A pair is a candidate in the view that its source has in the batch, so that a pair of the batch has its own teacher
    embeddings among the candidates. Pairs whose image was bad when the cache was built are left out. The embeddings of
    one view stay in memory up to the limit of :func:`fits_in_memory`; larger ones are read from disk at every use.
    """

    def __init__(self, cache: TeacherCache | JoinedCaches, stream: BatchStream, scale: Tensor) -> None:
        self._cache, self._stream, self._scale = cache, stream, scale
        self._known = KnownMatches(stream.dataset, stream.choose)
        self._views: tuple[int, ...] = ()  # of each source in the newest batch
        self._captions: CaptionsInViews | None = None
        self._kept: list[Read] | None = None

    def of(self, indices: Sequence[int], views: Sequence[int]) -> Candidates:
        """The candidates for the pairs of a batch, given their indices and views.

        Raises:
            ValueError: a row of the cache is damaged.
        """
        now = self._views_of_sources(indices, views)
        if now != self._views or self._captions is None:  # views change with the epoch, not with the step
            sources = zip(self._stream.dataset.sources, now, strict=True)
            views_N = np.concatenate([np.full(source.num_samples, view) for source, view in sources])
            self._views, self._captions, self._kept = now, self._known.captions(views_N), None
            if fits_in_memory(len(views_N), self._cache.width):
                self._kept = list(self._read(now))
        pairs_B = np.array(indices)
        return Candidates(
            partial(self._blocks, now, self._kept),
            {
                "text": self._on_device(self._known.texts_of(pairs_B, self._captions)),
                "image": self._on_device(self._known.images_of(pairs_B, self._captions)),
            },
        )

    def _views_of_sources(self, indices: Sequence[int], views: Sequence[int]) -> tuple[int, ...]:
        pairs_B, views_B = np.array(indices), np.array(views)
        sources = self._stream.dataset.sources
        rows = [np.argmax((pairs_B >= start) & (pairs_B < start + num_samples)) for start, num_samples, _ in sources]
        return tuple(views_B[rows].tolist())

    def _blocks(self, views: tuple[int, ...], kept: Iterable[Read] | None, modality: Modality) -> Iterator[Block]:
        for pairs_C, embeddings in kept or self._read(views):
            yield pairs_C, embeddings.image_BD if modality == "image" else embeddings.text_BD

    def _read(self, views: tuple[int, ...]) -> Iterator[Read]:
        num_views = self._stream.views
        for (start, num_samples, _), view in zip(self._stream.dataset.sources, views, strict=True):
            for rows in block_rows(num_samples, BLOCK_ROWS):
                pairs_C = torch.arange(start + rows.start, start + rows.stop)
                is_good_C, embeddings = self._cache.good_embeddings(pairs_C * num_views + view, self._scale)
                if len(embeddings):
                    yield onto(self._scale.device, pairs_C[is_good_C]), embeddings

    def _on_device(self, matches: tuple[Integers, Integers]) -> Matches:
        rows_P, pairs_P = (onto(self._scale.device, torch.from_numpy(column)) for column in matches)
        return rows_P, pairs_P
