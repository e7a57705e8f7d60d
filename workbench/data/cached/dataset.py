"""``PreparedDataset``: a dataset read from a store, with cached tokens for each tokenizer."""

from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from workbench.data.cached.store import MappedFile, Store
from workbench.data.dataset import Dataset, Sample, SampleText
from workbench.embeddings import InputSpec
from workbench.files import new_file
from workbench.progress import announced

PER_CALL = 1024
MANY = 50_000  # captions that deserve a progress bar

Row = npt.NDArray[np.int32]


class TokenRows:
    """The tokens of M captions, int32 [M, L] in a memory-mapped file."""

    def __init__(self, path: Path, num_captions: int) -> None:
        self._rows = MappedFile(path)
        self._row_bytes = len(self._rows) // num_captions

    def __getitem__(self, caption: int) -> Row:
        start = caption * self._row_bytes
        return np.frombuffer(self._rows.read(start, start + self._row_bytes), np.int32)


def token_rows(store: Store, form: InputSpec) -> TokenRows:
    """The tokens of a store's captions for one model, from the cache or newly written.

    Raises:
        OSError: the disk is full, or not writable.
    """
    path = store.folder / f"tokens-{sha256(form.tokenizer_id.encode()).hexdigest()[:16]}.bin"
    num_captions = store.manifest.num_captions
    if not _is_whole(path, num_captions, form):
        _write(path, store, form)
    return TokenRows(path, num_captions)


def _is_whole(path: Path, num_captions: int, form: InputSpec) -> bool:
    length = form.tokenize([""]).shape[1]
    return path.exists() and path.stat().st_size == num_captions * length * np.dtype(np.int32).itemsize


def _write(path: Path, store: Store, form: InputSpec) -> None:
    """Writes a temporary file and renames it: two processes at once write the same content."""
    num_captions = store.manifest.num_captions
    captions = _captions(store)
    if num_captions >= MANY:
        captions = announced(captions, num_captions, "tokenizing", store.manifest.spec, "captions")
    with new_file(path) as temporary, temporary.open("wb") as file:
        while some := list(islice(captions, PER_CALL)):
            file.write(form.tokenize(some).numpy().astype(np.int32).tobytes())


def _captions(store: Store) -> Iterator[str]:
    for index in range(len(store)):
        yield from store.text(index).captions


class PreparedDataset(Dataset):
    """The pairs of a store: same samples, order and fingerprint as the dataset that it was made from.

    Nothing is held in memory; all files are memory-mapped.
    """

    def __init__(self, store: Store, dataset: Dataset | None = None) -> None:
        self.store = store
        if dataset is not None:
            self.copy_metadata(dataset)
        self.fingerprint = store.manifest.source.fingerprint
        self._token_rows: dict[str, TokenRows] = {}

    def keep_tokens(self, form: InputSpec) -> None:
        """Makes ``tokens`` return this model's tokens; writes them now if they are not cached yet.

        Raises:
            OSError: the disk is full, or not writable.
        """
        self._token_rows[form.tokenizer_id] = token_rows(self.store, form)

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> Sample:
        """Reads one sample; see :class:`~workbench.data.dataset.Dataset`."""
        return self.store.sample(index)

    def text(self, index: int) -> SampleText:
        """One sample without its image."""
        return self.store.text(index)

    def encoded(self, index: int) -> bytes:
        """The image file, if the store holds files."""
        return self.store.encoded(index)

    def stamp(self) -> str:
        """The stamp of the data when the store was made."""
        return self.store.manifest.source.stamp

    def tokens(self, index: int, caption: int, tokenizer_id: str) -> npt.NDArray[np.int32] | None:
        """Cached tokens of one caption, if there are any for this tokenizer."""
        rows = self._token_rows.get(tokenizer_id)
        return None if rows is None else rows[self.store.first_caption(index) + caption]
