"""Which pairs of settings matter together: F-tests of products of settings in a quadratic model.

The model of the value of configuration n with settings x is

    y[n] = c + Σ_i (a[i] x[n, i] + b[i] x[n, i]²) + d x[n, j] x[n, k] + noise

with one product at a time. Searches have few configurations: all products at once would leave nothing to estimate the
noise from.

Shape letters: N configurations, K settings, P columns of the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.statistics.verdict import holm

Floats = NDArray[np.float64]
LEAST_DF = 5  # degrees of freedom of the noise; with fewer, the test has no power


@dataclass(frozen=True)
class Interaction:
    """Two settings, by number: the share of the variance beyond their own effects that their product explains.

    ``together`` is the sign of d: 1 if both settings rising together raises the value. ``p_value`` is Holm-adjusted
    over all pairs.
    """

    first: int
    second: int
    share: float
    together: int
    p_value: float


def interactions(setting_NK: ArrayLike, value_N: ArrayLike) -> list[Interaction]:
    """Every pair of settings, the largest share first; empty with too few configurations or settings that never vary.

    Args:
        setting_NK: float [N, K], in a unit in which effects are smooth, e.g. the logarithm of a weight.
        value_N: float [N].
    """
    settings_NK, values_N = np.asarray(setting_NK, dtype=float), np.asarray(value_N, dtype=float)
    if len(values_N) == 0:
        return []
    varied = [number for number in range(settings_NK.shape[1]) if np.ptp(settings_NK[:, number]) > 0]
    scaled_NK = (settings_NK - settings_NK.mean(0)) / np.where(np.ptp(settings_NK, axis=0) > 0, settings_NK.std(0), 1)
    # A column of squares is constant for a setting of two levels; least squares drops it by the rank.
    alone_NP = np.concatenate([np.ones((len(values_N), 1)), scaled_NK, scaled_NK**2], axis=1)
    found = [_test(alone_NP, scaled_NK, values_N, pair) for pair in combinations(varied, 2)]
    known = [one for one in found if one is not None]
    adjusted = holm([one.p_value for one in known])
    every = [
        Interaction(one.first, one.second, one.share, one.together, p_value)
        for one, p_value in zip(known, adjusted, strict=True)
    ]
    return sorted(every, key=lambda one: -one.share)


def _test(alone_NP: Floats, scaled_NK: Floats, value_N: Floats, pair: Sequence[int]) -> Interaction | None:
    from scipy.special import fdtrc

    first, second = pair
    product_N = scaled_NK[:, first] * scaled_NK[:, second]
    before, _, _ = _fit(alone_NP, value_N)
    after, rank, coefficients_P = _fit(np.concatenate([alone_NP, product_N[:, None]], axis=1), value_N)
    df = len(value_N) - rank
    if df < LEAST_DF or before <= 0 or after <= 0:
        return None
    p_value = float(fdtrc(1, df, (before - after) / (after / df)))
    return Interaction(first, second, 1 - after / before, int(np.sign(coefficients_P[-1])), p_value)


def _fit(design_NP: Floats, value_N: Floats) -> tuple[float, int, Floats]:
    """(sum of squared residuals, rank, coefficients) of least squares."""
    coefficients_P, _, rank, _ = np.linalg.lstsq(design_NP, value_N, rcond=None)
    residual_N = value_N - design_NP @ coefficients_P
    return float(residual_N @ residual_N), int(rank), np.asarray(coefficients_P, dtype=np.float64)
