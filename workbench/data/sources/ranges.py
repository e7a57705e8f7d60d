"""Brace ranges in SPECs of shards: ``{00000..00099}``."""

import itertools
import re

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def expand_ranges(spec: str) -> list[str]:
    """Every name that a SPEC with ranges stands for, in order; leading zeros stay.

    Raises:
        ValueError: a range is descending.
    """
    pieces = _RANGE.split(spec)
    choices: list[list[str]] = [[pieces[0]]]
    for first, last, after in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        if int(first) > int(last):
            raise ValueError(f"the range {{{first}..{last}}} is descending: write the smaller number first")
        choices.append([f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)])
        choices.append([after])
    return ["".join(parts) for parts in itertools.product(*choices)]
