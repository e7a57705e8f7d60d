"""Agreement of two rankings: Kendall's τ with an interval and a permutation p-value.

Shape letters: C cells, D draws, O orders, P pairs of cells.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_PERMUTED = 8  # cells for an exact test: 40,320 orders
NUM_DRAWS = 4000
ALPHA = 0.05
AGREE, REVERSED = "they agree", "they are reversed"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Kendall's τ_b: 1 for the same order, -1 for the reverse.

    ``low`` and ``high``: 95 % interval from the uncertainty of our means; the other list is fixed. ``p_value``:
    two-sided permutation p-value; ``least_p_value`` is the smallest that is possible with these cells. ``published``:
    the metric of the published order if it is another one than ours.
    """

    tau: float
    low: float
    high: float
    p_value: float
    least_p_value: float
    num_cells: int
    published: str = ""

    @property
    def verdict(self) -> str:
        """Whether the orders agree; "too few cells for a test" if even the same order would have p >= 0.05."""
        if self.p_value < ALPHA and self.low * self.high > 0:
            return AGREE if self.low > 0 else REVERSED
        # With three cells, even the same order has p = 1/3 (two-sided), so no test can succeed.
        return "too few cells for a test" if self.least_p_value >= ALPHA else "agreement is not shown"


def tau_text(agreed: Agreement) -> str:
    """τ with its interval, such as "+0.79 (+0.50 to +0.93)"."""
    rounded = (f"{round(value, 2) + 0.0:+.2f}" for value in (agreed.tau, agreed.low, agreed.high))
    tau, low, high = (value.replace("-", "\N{MINUS SIGN}") for value in rounded)
    return f"{tau} ({low} to {high})"


def rank_agreement(
    ours_C: Sequence[float], theirs_C: Sequence[float], error: float = math.nan, df: int = 0
) -> Agreement | None:
    """Agreement of two orders of the same cells; None for fewer than three cells, or if one list is all ties.

    Args:
        error: standard error of each of our means without the component shared by all, with ``df`` degrees of freedom.
            Without them the interval is -1 to 1.
    """
    ours, theirs = np.asarray(ours_C, dtype=float), np.asarray(theirs_C, dtype=float)
    if len(ours) < 3 or len(set(ours)) < 2 or len(set(theirs)) < 2:
        return None
    tau = float(_taus(ours[None], theirs)[0])
    low, high = (-1.0, 1.0)
    if df and math.isfinite(error):
        low, high = np.quantile(_taus(_draws(ours, error, df), theirs), [0.025, 0.975]).tolist()
    return Agreement(tau, min(low, tau), max(high, tau), *_p_values(ours, theirs), len(ours))


def _draws(mean_C: Floats, error: float, df: int) -> Floats:
    """[D, C]: draws of the true means around the measured ones (multivariate t: one variance for all cells)."""
    generator = np.random.default_rng(0)  # fixed seed: equal inputs give equal intervals
    scale_D = np.sqrt(df / generator.chisquare(df, NUM_DRAWS))
    drawn: Floats = mean_C + error * scale_D[:, None] * generator.standard_normal((NUM_DRAWS, len(mean_C)))
    return drawn


def _taus(ours_DC: Floats, theirs_C: Floats) -> Floats:
    """[D]: τ_b of each row of ``ours_DC`` against ``theirs_C``; 0 for a row of ties."""
    first, second = np.triu_indices(len(theirs_C), 1)
    signs_DP = np.sign(ours_DC[:, first] - ours_DC[:, second])
    signs_P = np.sign(theirs_C[first] - theirs_C[second])
    untied_D = np.abs(signs_DP).sum(1) * np.abs(signs_P).sum()
    taus: Floats = (signs_DP @ signs_P) / np.sqrt(np.maximum(untied_D, 1))
    return taus


def _p_values(ours_C: Floats, theirs_C: Floats) -> tuple[float, float]:
    """(p-value, smallest possible p-value); exact over all orders for few cells, including ties."""
    if len(ours_C) > MOST_PERMUTED:
        from scipy.stats import kendalltau

        return float(kendalltau(ours_C, theirs_C).pvalue), 0.0
    orders = np.array(list(itertools.permutations(range(len(ours_C)))))
    tau, tau_O = abs(_taus(ours_C[None], theirs_C)[0]), np.abs(_taus(ours_C[orders], theirs_C))
    # The tolerance counts orders with the same τ up to rounding.
    p_value, least = (float((tau_O >= bound - 1e-12).mean()) for bound in (tau, tau_O.max()))
    return p_value, least
