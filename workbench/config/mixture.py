"""``SPEC*2 + SPEC*1``: several data sets or several teachers in one setting, each with its weight."""

import re
from pathlib import Path
from typing import NamedTuple

_PLUS = re.compile(r"\s+\+\s+")
_RATIO = re.compile(r"(?P<spec>.+?)\s*\*\s*(?P<ratio>[^*/\s]+)")


class Part(NamedTuple):
    """One SPEC of a mixture, and its weight: of a data set in every batch, of a teacher in the mean."""

    spec: str
    ratio: float

    def __str__(self) -> str:
        return self.spec if self.ratio == 1 else f"{self.spec}*{self.ratio!r}"


def mixture_parts(spec: str) -> list[Part]:
    """The parts of a mixture; empty if the SPEC is not a mixture.

    The default ratio is 1. An existing path is not a mixture, whatever its name.

    Raises:
        ValueError: a ratio that is not a number above 0.
    """
    pieces = _PLUS.split(spec.strip())
    if len(pieces) < 2 or Path(spec).exists():
        return []
    return [_part(piece) for piece in pieces]


def mixture_spec(parts: list[Part]) -> str:
    """The SPEC of these parts."""
    return " + ".join(map(str, parts))


def _part(piece: str) -> Part:
    match = _RATIO.fullmatch(piece)
    if match is None or Path(piece).exists() or match["ratio"].endswith(".parquet"):  # a glob: train-*.parquet
        return Part(piece, 1.0)
    try:
        ratio = float(match["ratio"])
    except ValueError:
        ratio = 0.0
    if not 0 < ratio < float("inf"):
        raise ValueError(f"'*{match['ratio']}' is not a ratio: a mixture is 'SPEC*2 + SPEC*1', with numbers above 0")
    return Part(match["spec"], ratio)
