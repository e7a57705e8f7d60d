"""How a data set was read: what was left out when it was opened, and what a person should know of that."""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

# Why a picture cannot be used: a reason that can be counted, and a line that names the picture.

Reason = Literal[
    "missing file", "unreadable file", "empty file", "no JPEG, PNG or WebP", "too many pixels", "cut short or damaged"
]


class ImageError(ValueError):
    """One picture cannot be read or decoded; the others may be sound."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self._message = message

    def __str__(self) -> str:
        return self._message

    def at(self, place: str) -> "ImageError":
        """The same error, with where the picture lies in front of its line."""
        return ImageError(self.reason, f"{place}: {self._message}")


# How many images or captions could not be used, why, and when that is too many to go on.

MAX_SHARE = 0.05
FEW = 5  # as many may be chance, whatever their share
REMEDY = "mend or remove them (`workbench data check SPEC` counts them)"


class BadImageCount:
    """Images that could not be read or decoded, by reason, among those seen; or captions that are no text.

    Args:
        things: what is counted, as a line for people names it.
        remedy: what to do where too many cannot be used.
    """

    def __init__(self, things: str = "pictures", remedy: str = REMEDY) -> None:
        self.things = things
        self._remedy = remedy
        self.num_seen = 0
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self._num_told = 0

    @property
    def num_unusable(self) -> int:
        return self.reasons.total()

    @property
    def is_too_many(self) -> bool:
        """Whether so many are unusable that something is wrong with the data rather than with some pictures."""
        return self._is_beyond(FEW)

    def _is_beyond(self, few: int) -> bool:
        return self.num_unusable > max(few, MAX_SHARE * self.num_seen) or 0 < self.num_seen == self.num_unusable

    def add(self, num_seen: int, unusable: Iterable[tuple[str, str]]) -> None:
        """Count some more, and the reason and a line for each of them that could not be used."""
        self.num_seen += num_seen
        for reason, message in unusable:
            self.reasons[reason] += 1
            self.examples.setdefault(reason, message)

    def check(self, few: int = FEW) -> None:
        """Refuse to go on where too many are unusable.

        Args:
            few: as many may be, whatever their share.

        Raises:
            ValueError: with reasons and examples.
        """
        if self._is_beyond(few):
            raise ValueError(
                f"too many {self.things} cannot be used, {self.describe(every=True)}; "
                f"up to {MAX_SHARE:.0%} would be passed over: {self._remedy}"
            )

    def news(self, *, final: bool = False) -> str:
        """A line for people when there are twice as many as they were last told, or at the end; else nothing."""
        is_due = self.num_unusable >= 2 * self._num_told or final
        if self.num_unusable == self._num_told or not is_due:
            return ""
        self._num_told = self.num_unusable
        return f"{self.things} cannot be used, and others took their places: {self.describe()}"

    def describe(self, *, every: bool = False) -> str:
        """Counts by reason, with an example of the first or of every reason."""
        counted = ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.most_common())
        examples = [self.examples[reason] for reason, _ in self.reasons.most_common(None if every else 1)]
        return f"{self.num_unusable:,} of {self.num_seen:,} ({counted}; such as {'; '.join(examples)})"


CAPTION_REMEDY = "give each image a caption that is text, or remove it from the list"


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


def caption_tally(source: str) -> BadImageCount:
    """Counts the captions of a source, and those of them that cannot be used."""
    return BadImageCount(f"captions of {source}", CAPTION_REMEDY)


def reading_of(captions: BadImageCount, *notes: str, skipped: Iterable[str] = (), by_line: bool = False) -> Reading:
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
