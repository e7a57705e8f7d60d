"""One thing that was looked into, and what to do about it."""

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: what was looked into, in a word or two.
        level: a warning is for a person to judge; with a problem, the run is not worth its time.
        message: one clause.
        remedy: what to do; empty where nothing is to be done.
    """

    check: str
    level: Level
    message: str
    remedy: str = ""

    def __post_init__(self) -> None:
        assert bool(self.remedy) == (self.level != "ok"), "what is wrong has a remedy, and what is right needs none"

    def to_json(self) -> dict[str, str]:
        """One of the ``findings`` of ``--json``."""
        return asdict(self)
