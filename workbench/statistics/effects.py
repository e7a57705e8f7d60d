"""What each of several settings does, averaged over the others."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.statistics.intervals import Gain
from workbench.statistics.pooled import Values, pooled_spread

Levels = Sequence[Hashable]


@dataclass(frozen=True)
class Effect:
    """One value of one setting: what it adds to the mean over all its values, the other settings averaged over."""

    setting: str
    level: Any
    gain: Gain


def main_effects(values: Values, levels: Mapping[str, Mapping[str, Hashable]]) -> list[Effect]:
    """The main effects of a full grid, paired by seed, over the seeds at which every cell has ended.

    A seed at which a cell is missing would lend its neighbours' means to that cell's values, and is left out; with no
    whole seed there is nothing to tell.

    The variance of a mean over the n cells of a value, less that over the g · n of all g values, is σ²(1/n - 1/(g·n))
    over the seeds, σ² pooled as in :mod:`workbench.statistics.pooled`.

    Args:
        values: by cell and seed.
        levels: by cell, the value of every setting.
    """
    whole = sorted(set.intersection(*(set(values.get(cell, {})) for cell in levels))) if levels else []
    if not whole:
        return []
    spread = pooled_spread({cell: {seed: values[cell][seed] for seed in whole} for cell in levels})
    found = []
    for setting in next(iter(levels.values())):
        by_level: dict[Hashable, list[str]] = {}
        for cell, of in levels.items():
            by_level.setdefault(of[setting], []).append(cell)
        if len(by_level) < 2:
            continue
        means = {level: [_mean(values, cells, seed) for seed in whole] for level, cells in by_level.items()}
        centre = [sum(column) / len(column) for column in zip(*means.values(), strict=True)]
        for level, mean in means.items():
            per_seed = tuple(one - middle for one, middle in zip(mean, centre, strict=True))
            share = math.sqrt((1 - 1 / len(by_level)) / len(by_level[level]) / 2)  # the spread is √2 · σ
            half = share * spread.half_width(len(whole))
            gain = sum(per_seed) / len(per_seed)
            found.append(Effect(setting, level, Gain(gain, gain - half, gain + half, per_seed, "seeds")))
    return found


def _mean(values: Values, cells: Sequence[str], seed: int) -> float:
    return sum(values[cell][seed] for cell in cells) / len(cells)
