"""How many images or captions could not be used, why, and when that is too many to go on."""

from collections import Counter
from collections.abc import Iterable

MAX_SHARE = 0.05
FEW = 5  # as many may be chance, whatever their share
REMEDY = "mend or remove them (`workbench data check SPEC` counts them)"


class Tally:
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
