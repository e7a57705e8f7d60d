"""Racing: after each seed, whether a configuration can still be hoped to beat the best one.

Two configurations at one seed share their batches, so their difference is what counts, and its spread over seeds is
learnt from all trials that have finished: with v[t, s] the objective of trial t at seed s,

    v[t, s] = trial[t] + seed[s] + residual[t, s],        s² = Σ residual² / ((T - 1)(S - 1))

and after k seeds a trial is dropped when  mean difference to the best + t((T-1)(S-1)) · √(2 s² / k)  is below 0.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

LEVEL = 0.99  # one-sided: the best so far was lucky too, and is compared with many
LEAST_DF = 4

BySeed = Mapping[int, float]


def residual_spread(finished: Sequence[BySeed]) -> tuple[float, int]:
    """(s, degrees of freedom) of what neither the trial nor the seed explains, over trials that share their seeds."""
    if not finished:
        return math.nan, 0
    seeds = sorted(set.intersection(*(set(values) for values in finished)))
    value_TS = np.array([[values[seed] for seed in seeds] for values in finished])
    df = max(0, (len(finished) - 1) * (len(seeds) - 1))
    if not df:
        return math.nan, 0
    residual_TS = value_TS - value_TS.mean(1, keepdims=True) - value_TS.mean(0, keepdims=True) + value_TS.mean()
    return math.sqrt(float((residual_TS**2).sum()) / df), df


def is_out_of_the_race(own: BySeed, finished: Sequence[BySeed], *, maximize: bool) -> bool:
    """Whether the trial is credibly worse than the best finished one on the seeds that it has had so far.

    Nothing is dropped before the finished trials tell how much seeds scatter (at least four degrees of freedom).
    """
    from scipy.special import stdtrit

    spread, df = residual_spread(finished)
    if df < LEAST_DF or not own:
        return False
    sign = 1 if maximize else -1
    best = max(finished, key=lambda values: sign * sum(values.values()) / len(values))
    seeds = [seed for seed in own if seed in best]
    if not seeds:
        return False
    difference = sign * sum(own[seed] - best[seed] for seed in seeds) / len(seeds)
    reach = float(stdtrit(df, LEVEL)) * spread * math.sqrt(2 / len(seeds))
    return difference + reach < 0
