"""What a store will take, said before it is made."""

import time
from dataclasses import dataclass

from workbench.data.picture_files import spread
from workbench.data.sample import Dataset
from workbench.data.store import Kind
from workbench.data.store_writer import content_of, num_threads
from workbench.embeddings import Replaced
from workbench.views.units import duration, size

NUM_TRIED = 24
ENTRY_BYTES = 60  # of a picture's row in the index, and of what surrounds its texts


@dataclass(frozen=True)
class Forecast:
    """Bytes on disk, and seconds to make them."""

    size_bytes: int
    time_s: float

    def __str__(self) -> str:
        return f"{size(self.size_bytes)}, about {duration(self.time_s)}"


def forecast(dataset: Dataset, kind: Kind) -> Forecast:
    """Size and time of a store of these data, from a few pictures all over them."""
    tried = spread(len(dataset), NUM_TRIED)
    start = time.perf_counter()
    contents = [content_of(dataset, index, kind) for index in tried]
    picture_s = (time.perf_counter() - start) / len(tried)
    texts = [dataset.text(index) for index in tried]
    picture_bytes = sum(len(content.data) for content in contents if not isinstance(content, Replaced))
    text_bytes = sum(len(text.key + text.group) + sum(map(len, text.captions)) for text in texts)
    each_bytes = ENTRY_BYTES + (picture_bytes + text_bytes) / len(tried)
    return Forecast(round(len(dataset) * each_bytes), len(dataset) * picture_s / num_threads())
