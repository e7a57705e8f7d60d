"""Captions as tokens, once for all: beside a store, a file for each tokenizer.

Shape letters: M captions · L tokens.
"""

from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from workbench.data.bar import announced
from workbench.data.mapped import Mapped
from workbench.data.store import Store
from workbench.embeddings import InputForm
from workbench.files import new_file

PER_CALL = 1024
MANY = 50_000  # captions that take long enough for a person to wonder

Row = npt.NDArray[np.int32]


class TokenRows:
    """The tokens of M captions, int32 [M, L] in a file that is mapped into memory."""

    def __init__(self, path: Path, num_captions: int) -> None:
        self._rows = Mapped(path)
        self._row_bytes = len(self._rows) // num_captions

    def __getitem__(self, caption: int) -> Row:
        start = caption * self._row_bytes
        return np.frombuffer(self._rows.read(start, start + self._row_bytes), np.int32)


def token_rows(store: Store, form: InputForm) -> TokenRows:
    """The captions of a store in the tokens of a model, made where there are none yet.

    Raises:
        OSError: there is no room for them, or no permission.
    """
    path = store.folder / f"tokens-{sha256(form.tokenizer_id.encode()).hexdigest()[:16]}.bin"
    num_captions = store.manifest.num_captions
    if not _is_whole(path, num_captions, form):
        _write(path, store, form)
    return TokenRows(path, num_captions)


def _is_whole(path: Path, num_captions: int, form: InputForm) -> bool:
    length = form.tokenize([""]).shape[1]
    return path.exists() and path.stat().st_size == num_captions * length * np.dtype(np.int32).itemsize


def _write(path: Path, store: Store, form: InputForm) -> None:
    """Writes beside the place, then renames: two processes that do so at once write the same."""
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
