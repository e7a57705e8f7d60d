"""InfoNCE lower bounds on mutual information, by the number of negatives and over training.

A contrastive batch of B pairs bounds the mutual information by log(B − 1) minus its loss, in nats, for any scores. The
bound cannot exceed log(B − 1), however large the information (CLIP-KD, appendix, equations 8-23, N = B − 1 negatives).

Shape letters: P pairs in total, B pairs in one batch, D values a row, N batch sizes, R random batches.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.events import EvalDone, Event, RunStarted, StepDone
from workbench.randomness import derive_seed
from workbench.views.curves import Series, series_of

Floats = NDArray[np.float64]
NUM_DRAWS = 24
MOST_LOGITS = 1 << 20  # in memory at once, unless a single batch has more
MIDDLE = (2.5, 97.5)  # percentiles of the 95 % interval
HELD_OUT = {"image": "mutual_information_image", "text": "mutual_information_text"}


@dataclass(frozen=True, eq=False)
class InformationBounds:
    """Lower bounds in nats for N different numbers of negatives.

    ``mean_N`` is the mean over random batches; 95 % of the batches lie between ``low_N`` and ``high_N``.
    ``num_negatives_N`` is int64 [N], ascending; the others are float64 [N].
    """

    num_negatives_N: NDArray[np.int64]
    mean_N: Floats
    low_N: Floats
    high_N: Floats

    @property
    def most_N(self) -> Floats:
        """The largest possible bound for each number of negatives, its logarithm."""
        most: Floats = np.log(self.num_negatives_N)
        return most

    @property
    def saturates_at(self) -> int | None:
        """The number of negatives from which the bound grows less than half as fast as its maximum; None if never."""
        gained = np.diff(self.mean_N) / np.diff(self.most_N)
        if not len(gained) or gained[-1] >= 0.5:
            return None
        steep = np.flatnonzero(gained >= 0.5)
        return int(self.num_negatives_N[steep[-1] + 1 if len(steep) else 0])


@dataclass(frozen=True, eq=False)
class InformationOverTime:
    """A run's bounds over training in nats, each with its largest possible value.

    ``held_out`` is by the student's modality, "image" or "text", on the same pairs at every evaluation; ``training`` is
    from the ICL loss of the training batches, the mean of both modalities.
    """

    held_out: dict[str, Series]
    held_out_most: float
    held_out_pairs: int
    training: Series
    training_most: float
    batch_size: int


def bound(logits_RBB: NDArray[np.floating]) -> Floats:
    """log(B − 1) minus the InfoNCE loss of the rows, in nats, for each of R batches of B ≥ 2 pairs, float64 [R].

    A negative bound is vacuous.
    """
    top_RB1 = logits_RBB.max(axis=2, keepdims=True)
    log_sum_RB = top_RB1[..., 0] + np.log(np.exp(logits_RBB - top_RB1).sum(axis=2))
    loss_R = (log_sum_RB - np.diagonal(logits_RBB, axis1=1, axis2=2)).mean(axis=1, dtype=np.float64)
    bound_R: Floats = math.log(logits_RBB.shape[1] - 1) - loss_R
    return bound_R


def information_bounds(
    rows_PD: NDArray[np.floating], columns_PD: NDArray[np.floating], scale: float, num_draws: int = NUM_DRAWS
) -> InformationBounds:
    """The bounds for 1, 2, 4 ... negatives, up to half of the pairs, over random batches drawn without replacement.

    Args:
        rows_PD, columns_PD: embeddings of the same pairs; each row is to find its own column.
        scale: 1/τ, multiplies inner products.
    """
    num_pairs = len(rows_PD)
    if num_pairs != len(columns_PD) or num_pairs < 3:
        raise ValueError(f"a bound needs at least 3 complete pairs (got {num_pairs} rows, {len(columns_PD)} columns)")
    rows, columns = np.float32(scale) * rows_PD.astype(np.float32), columns_PD.astype(np.float32)
    negatives = [2**power for power in range(num_pairs.bit_length()) if 2**power <= num_pairs // 2]
    bound_NR = np.array([_drawn(rows, columns, number + 1, num_draws) for number in negatives])
    mean_N = bound_NR.mean(axis=1)
    # Finite-population correction: batches drawn from few pairs overlap, so they vary too little by this factor.
    correction_N = 1 - (np.array(negatives) + 1) / num_pairs
    spread_NR = (bound_NR - mean_N[:, None]) / np.sqrt(correction_N)[:, None]
    low_N, high_N = mean_N + np.percentile(spread_NR, MIDDLE, axis=1)
    return InformationBounds(np.array(negatives, dtype=np.int64), mean_N, low_N, np.minimum(high_N, np.log(negatives)))


def _drawn(rows_PD: NDArray[np.float32], columns_PD: NDArray[np.float32], size: int, num_draws: int) -> Floats:
    """The bounds of ``num_draws`` random batches, float64 [R]; batches from the same shuffle are disjoint."""
    generator = np.random.default_rng(derive_seed(0, "contrasts", size))
    num_pairs, per_shuffle = len(rows_PD), len(rows_PD) // size
    num_shuffles = math.ceil(num_draws / per_shuffle)
    shuffled = np.concatenate([generator.permutation(num_pairs)[: per_shuffle * size] for _ in range(num_shuffles)])
    chosen_RB = shuffled.reshape(-1, size)[:num_draws]
    at_once = max(1, MOST_LOGITS // size**2)
    parts = [chosen_RB[start : start + at_once] for start in range(0, num_draws, at_once)]
    return np.concatenate([bound(rows_PD[part] @ columns_PD[part].transpose(0, 2, 1)) for part in parts])


def known_answer(information: float, num_pairs: int, width: int = 16) -> tuple[Floats, Floats]:
    """Correlated normal vectors with a known mutual information in nats, as rows and columns of optimal scores.

    Each coordinate of a row and its column has correlation r, with information = −½ · width · log(1 − r²). The inner
    products are the log density ratio log p(row, column) / (p(row) p(column)) up to a constant for each row. With these
    optimal scores and a scale of 1, only the number of negatives limits the bound.

    Returns:
        float64 [P, D] twice, with D = width + 1.
    """
    square = 1 - math.exp(-2 * information / width)  # r²
    generator = np.random.default_rng(derive_seed(0, "known answer"))
    one_PD, other_PD = generator.standard_normal((2, num_pairs, width))
    column_PD = math.sqrt(square) * one_PD + math.sqrt(1 - square) * other_PD
    # One more coordinate adds the term of the density ratio that depends on the column alone.
    length_P1 = -square / (2 * (1 - square)) * (column_PD**2).sum(axis=1, keepdims=True)
    row_PD = math.sqrt(square) / (1 - square) * one_PD
    return np.hstack([row_PD, np.ones((num_pairs, 1))]), np.hstack([column_PD, length_P1])


def information_over_time(events: Iterable[Event], blocks: Sequence[int]) -> InformationOverTime | None:
    """A run's bounds over training; None for a run without icl, or before its first logged step.

    Args:
        blocks: the numbers of held-out pairs in the contrastive batches of an evaluation.
    """
    events = list(events)
    training = {one.step: one.terms["icl"] for one in events if isinstance(one, StepDone) and "icl" in one.terms}
    evaluations = [one for one in events if isinstance(one, EvalDone) and one.split == "validation"]
    measured = [one for one in evaluations if HELD_OUT["image"] in one.metrics]
    started = [one for one in events if isinstance(one, RunStarted)]
    if not (training and started):
        return None
    most = math.log(started[-1].batch_size - 1)
    return InformationOverTime(
        {side: series_of({one.step: one.metrics[name] for one in measured}) for side, name in HELD_OUT.items()},
        sum(size * math.log(size - 1) for size in blocks) / sum(blocks) if measured else math.nan,
        measured[-1].num_pairs if measured else 0,
        series_of({step: most - loss for step, loss in training.items()}),
        most,
        started[-1].batch_size,
    )
