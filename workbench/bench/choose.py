"""Cases by their names."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from workbench.config.nearest import unknown

Case = TypeVar("Case")


def choose_cases(names: Sequence[str], cases: Mapping[str, Case]) -> list[Case]:
    """The cases of these names; all of them where no name is given.

    Raises:
        ValueError: there is no such case; offers the nearest.
    """
    for name in names:
        if name not in cases:
            raise unknown("case", name, cases)
    return [cases[name] for name in names or cases]
