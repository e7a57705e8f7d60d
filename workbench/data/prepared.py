"""A data set whose pictures were decoded beforehand."""

import numpy as np
import numpy.typing as npt

from workbench.data.sample import Dataset, Sample, SampleText
from workbench.data.store import Store
from workbench.data.token_rows import TokenRows, token_rows
from workbench.embeddings import InputForm


class PreparedDataset(Dataset):
    """The pairs of a store, the same as those of the data that it was made from: neither batches nor names differ.

    Nothing of it is held in memory, so that it may be as large as the disk.
    """

    def __init__(self, store: Store, dataset: Dataset | None = None) -> None:
        self.store = store
        if dataset is not None:
            self.describe_like(dataset)
        self.fingerprint = store.manifest.source.fingerprint
        self._token_rows: dict[str, TokenRows] = {}

    def keep_tokens(self, form: InputForm) -> None:
        """Captions come as this model's tokens from now on; made now where no earlier run did.

        Raises:
            OSError: there is no room for them, or no permission.
        """
        self._token_rows[form.tokenizer_id] = token_rows(self.store, form)

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> Sample:
        """Reads one sample; see :class:`~workbench.data.sample.Dataset`."""
        return self.store.sample(index)

    def text(self, index: int) -> SampleText:
        """One sample without its picture."""
        return self.store.text(index)

    def encoded(self, index: int) -> bytes:
        """The picture's file, where the store holds files."""
        return self.store.encoded(index)

    def stamp(self) -> str:
        """That of the data when the store was made."""
        return self.store.manifest.source.stamp

    def tokens(self, index: int, caption: int, tokenizer_id: str) -> npt.NDArray[np.int32] | None:
        """One of a sample's captions as tokens, if this tokenizer's are kept."""
        rows = self._token_rows.get(tokenizer_id)
        return None if rows is None else rows[self.store.first_caption(index) + caption]
