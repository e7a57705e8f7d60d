"""How a data set was read: what was left out when it was opened, and what a person should know of that."""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from workbench.data.unusable import Tally

REMEDY = "give each image a caption that is text, or remove it from the list"


@dataclass(frozen=True)
class Reading:
    """What was left out of a data set.

    Attributes:
        left_out: captions that cannot be used, by reason.
        skipped_shards: names of the shards that could not be read, where ``data.bad_shards`` allows that.
        lines_are_captions: whether every line of a .txt was read as a caption.
        notes: the warnings that were given when the data were opened.
    """

    left_out: Mapping[str, int] = field(default_factory=dict)
    skipped_shards: tuple[str, ...] = ()
    lines_are_captions: bool = False
    notes: tuple[str, ...] = ()

    def warn(self) -> "Reading":
        """Give every note as a warning, which commands print to stderr."""
        for note in self.notes:
            warnings.warn(note, stacklevel=3)
        return self


def caption_tally(source: str) -> Tally:
    """Counts the captions of a source, and those of them that cannot be used."""
    return Tally(f"captions of {source}", REMEDY)


def reading_of(captions: Tally, *notes: str, skipped: Iterable[str] = (), by_line: bool = False) -> Reading:
    """What was left out, with a warning for it and for each of the other notes; empty notes count as none.

    Raises:
        ValueError: too many captions cannot be used; see :class:`~workbench.data.unusable.Tally`.
    """
    captions.check()
    left_out = f"left out {captions.things}: {captions.describe()}" if captions.num_unusable else ""
    told = tuple(note for note in (left_out, *notes) if note)
    return Reading(dict(captions.reasons.most_common()), tuple(skipped), by_line, told).warn()


def joined(readings: Iterable[Reading]) -> Reading:
    """The readings of a mixture's parts as one; their warnings have been given."""
    parts = list(readings)
    left_out: Counter[str] = Counter()
    for part in parts:
        left_out.update(part.left_out)
    return Reading(
        dict(left_out.most_common()),
        tuple(name for part in parts for name in part.skipped_shards),
        any(part.lines_are_captions for part in parts),
        tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )
