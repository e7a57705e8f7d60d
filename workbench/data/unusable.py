"""Unusable images and captions: the error for one, the count with its limit, and what a dataset left out."""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Reason = Literal[
    "missing file", "unreadable file", "empty file", "no JPEG, PNG or WebP", "too many pixels", "cut short or damaged"
]


class ImageError(ValueError):
    """One image cannot be read or decoded. ``reason`` is a fixed category, the text names the image."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, message)  # both, so that the error can be pickled
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[1])

    def at(self, place: str) -> "ImageError":
        """The same error with the image's location in front of its text."""
        return ImageError(self.reason, f"{place}: {self}")


BadShards = Literal["refuse", "skip"]


class RefusedError(ValueError):
    """Data that can be read, but that training refuses: too much of it is unusable."""


MAX_SHARE = 0.05
FEW = 5  # always tolerated, whatever their share
REMEDY = "repair or remove them (`workbench data check SPEC` counts them)"


class BadImageCount:
    """Counts unusable images (or other ``things``) by reason, among all seen."""

    def __init__(self, things: str = "images", remedy: str = REMEDY) -> None:
        self.things = things
        self._remedy = remedy
        self.num_seen = 0
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self._num_reported = 0

    @property
    def num_unusable(self) -> int:
        return self.reasons.total()

    def add(self, num_seen: int, unusable: Iterable[tuple[str, str]]) -> None:
        """Adds ``num_seen`` images, with (reason, message) of each unusable one."""
        self.num_seen += num_seen
        for reason, message in unusable:
            self.reasons[reason] += 1
            self.examples.setdefault(reason, message)

    def check(self, few: int = FEW) -> None:
        """Raises RefusedError if too many are unusable; ``few`` are tolerated whatever their share."""
        is_beyond = self.num_unusable > max(few, MAX_SHARE * self.num_seen)
        if is_beyond or 0 < self.num_seen == self.num_unusable:
            raise RefusedError(
                f"too many {self.things} cannot be used, {self.describe(every=True)}; "
                f"up to {MAX_SHARE:.0%} would be skipped: {self._remedy}"
            )

    def news(self, *, final: bool = False) -> str:
        """A message when the count has doubled since the last one, or is new at the end of a run; else empty."""
        is_due = self.num_unusable >= 2 * self._num_reported or final
        if self.num_unusable == self._num_reported or not is_due:
            return ""
        self._num_reported = self.num_unusable
        return f"{self.things} cannot be used and were replaced by others: {self.describe()}"

    def describe(self, *, every: bool = False) -> str:
        """Counts by reason, with an example of the most common or of every reason."""
        counted = ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.most_common())
        examples = [self.examples[reason] for reason, _ in self.reasons.most_common(None if every else 1)]
        return f"{self.num_unusable:,} of {self.num_seen:,} ({counted}; such as {'; '.join(examples)})"


CAPTION_REMEDY = "give each image a caption that is text, or remove it from the list"


@dataclass(frozen=True)
class Reading:
    """What was left out when a dataset was opened."""

    left_out: Mapping[str, int] = field(default_factory=dict)  # number of unusable captions, by reason
    skipped_shards: tuple[str, ...] = ()  # names of unreadable shards, if ``data.bad_shards`` allows that
    lines_are_captions: bool = False  # whether every line of a .txt is a caption
    notes: tuple[str, ...] = ()  # the warnings issued when the data were opened

    def warn(self) -> "Reading":
        """Issues every note as a warning, which commands print to stderr; returns self."""
        for note in self.notes:
            warnings.warn(note, stacklevel=3)
        return self


def caption_tally(source: str) -> BadImageCount:
    """A count of the unusable captions of a source."""
    return BadImageCount(f"captions of {source}", CAPTION_REMEDY)


def reading_of(captions: BadImageCount, *notes: str, skipped: Iterable[str] = (), by_line: bool = False) -> Reading:
    """The ``Reading`` of a dataset. Warns of unusable captions and of every note that is not empty.

    Raises:
        RefusedError: too many captions are unusable.
    """
    captions.check()
    left_out = f"left out {captions.things}: {captions.describe()}" if captions.num_unusable else ""
    all_notes = tuple(note for note in (left_out, *notes) if note)
    return Reading(dict(captions.reasons.most_common()), tuple(skipped), by_line, all_notes).warn()


def refused_shards(reasons: Sequence[str], num_shards: int, *, can_skip: bool) -> ValueError:
    """The error for shards that cannot be used, with the reason for each; RefusedError if they could be skipped."""
    if num_shards == 1:
        return ValueError(reasons[0])
    message = f"{len(reasons)} of {num_shards} shards cannot be used; {reasons[0]}"
    if not can_skip:
        return ValueError(message)
    return RefusedError(
        f"{message}. Runs leave such shards out, which is counted and warned of, with --set data.bad_shards=skip, "
        "and `workbench data` with --skip-bad-shards"
    )


def skipped_shards(reasons: Sequence[str], num_shards: int) -> str:
    """The note about shards that were skipped; empty if none were."""
    return f"left out {len(reasons)} of {num_shards} shards (data.bad_shards=skip); {reasons[0]}" if reasons else ""


def joined(readings: Iterable[Reading]) -> Reading:
    """The combined reading of a mixture's parts; warns of nothing, since the parts did."""
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
