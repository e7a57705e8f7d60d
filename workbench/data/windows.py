"""An order for data larger than memory: permuted shards, shuffled within windows.

An epoch reads the shards in a random order, each from its beginning to its end, and shuffles the samples within windows
of that sequence. So the images of a window lie in few places of the disk, and only the windows in use need be in
memory. The order is a function of the shard sizes, the data seed and the epoch alone, and any part of it can be
computed without the rest.

Shape letters: N samples · S pieces, which are shards or parts of large ones.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from workbench.randomness import derive_seed

Indices = npt.NDArray[np.int64]

PIECE = 1024  # samples that are kept together in data without shards


def generator(seed: int, purpose: str, *keys: int) -> np.random.Generator:
    """A generator whose numbers are part of every recorded run."""
    # PCG64 by name: numpy may change what default_rng is, and a resumed run must find its order again.
    return np.random.Generator(np.random.PCG64(derive_seed(seed, purpose, *keys)))


class WindowOrder:
    """The order of one epoch: ``order[start:stop]`` has the indices at these positions, int64.

    Args:
        shard_sizes: number of samples of each shard, in order; empty for data without shards.
        num_samples: N, of which shards have at least as many.
        window: samples that are shuffled together. A shard with more is cut into pieces of this length.
        keys: epoch, and number of the source.
    """

    def __init__(self, shard_sizes: Sequence[int], num_samples: int, window: int, seed: int, *keys: int) -> None:
        assert window > 0 and num_samples > 0
        self._window, self._seed, self._keys = window, seed, keys
        bounds = _bounds(shard_sizes, num_samples, window)
        order_S = generator(seed, "shards", *keys).permutation(len(bounds) - 1)
        self._starts_S = bounds[order_S]
        self._ends_S = np.cumsum(np.diff(bounds)[order_S])  # of each piece in the sequence
        self._newest: tuple[int, Indices] | None = None

    def __len__(self) -> int:
        return int(self._ends_S[-1])

    def __getitem__(self, positions: slice) -> Indices:
        start, stop, _ = positions.indices(len(self))
        parts = []
        for number in self.windows(start, stop):
            first = number * self._window
            shuffled = self._shuffled(number)
            parts.append(shuffled[max(start - first, 0) : stop - first])
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def windows(self, start: int, stop: int) -> range:
        """The numbers of the windows that these positions lie in."""
        return range(start // self._window, -(-stop // self._window))

    def places(self, window: int) -> Iterator[range]:
        """The samples of a window, as ranges of indices that lie together."""
        start, stop = window * self._window, min((window + 1) * self._window, len(self))
        if start >= stop:
            return
        for piece in range(int(np.searchsorted(self._ends_S, start, side="right")), len(self._ends_S)):
            end = int(self._ends_S[piece])
            length = end - (int(self._ends_S[piece - 1]) if piece else 0)
            first = int(self._starts_S[piece])
            yield range(first + max(0, start - (end - length)), first + length - max(0, end - stop))
            if end >= stop:
                return

    def _shuffled(self, window: int) -> Indices:
        """The samples of a window in their order. The newest is held: successive steps are in the same."""
        if self._newest is None or self._newest[0] != window:
            indices = np.concatenate([np.arange(place.start, place.stop) for place in self.places(window)])
            self._newest = window, generator(self._seed, "window", *self._keys, window).permutation(indices)
        return self._newest[1]


def _bounds(shard_sizes: Sequence[int], num_samples: int, window: int) -> Indices:
    """Where pieces begin, and N."""
    if not len(shard_sizes):
        return np.append(np.arange(0, num_samples, PIECE), num_samples)
    ends = np.minimum(np.cumsum(shard_sizes), num_samples)  # the last shards may not be in use
    starts = np.append(0, ends[:-1])
    cuts = [np.arange(start, end, window) for start, end in zip(starts, ends, strict=True)]
    return np.append(np.concatenate(cuts), num_samples)
