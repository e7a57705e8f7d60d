"""Contrasts of pairs -> how much information they prove, by how many pairs are contrasted, and over training.

A contrast of B pairs proves at least log(B − 1) minus its loss, in nats, whatever scores it compares, and so never more
than log(B − 1), however much there is (CLIP-KD, appendix, equations 8-23, with N = B − 1 negatives).

Shape letters: P pairs at hand, B pairs in one contrast, D numbers a row, N sizes, R draws.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.events import EvalDone, Event, RunStarted, StepDone
from workbench.randomness import derive_seed
from workbench.views.curves import Series

Floats = NDArray[np.float64]
NUM_DRAWS = 24
MOST_LOGITS = 1 << 20  # held at once, unless a single contrast has more
MIDDLE = (2.5, 97.5)  # per cent of the draws that an interval leaves out below and above
HELD_OUT = {"picture": "mutual_information_image", "text": "mutual_information_text"}


@dataclass(frozen=True, eq=False)
class InformationBounds:
    """Lower bounds in nats from contrasts against N different numbers of negatives.

    ``mean_N`` is over draws of as many pairs, and between ``low_N`` and ``high_N`` lie 95 % of the draws: what one
    batch of this size would say. ``num_negatives_N`` is int64 and ascending, the others float64 [N].
    """

    num_negatives_N: NDArray[np.int64]
    mean_N: Floats
    low_N: Floats
    high_N: Floats

    @property
    def most_N(self) -> Floats:
        """What no contrast of this size can pass, log N of its negatives."""
        most: Floats = np.log(self.num_negatives_N)
        return most

    @property
    def saturates_at(self) -> int | None:
        """The negatives from which more of them prove less than half of what they could; None within those seen."""
        gained = np.diff(self.mean_N) / np.diff(self.most_N)
        if not len(gained) or gained[-1] >= 0.5:
            return None
        steep = np.flatnonzero(gained >= 0.5)
        return int(self.num_negatives_N[steep[-1] + 1 if len(steep) else 0])


@dataclass(frozen=True, eq=False)
class InformationOverTime:
    """What a run's bounds were while it trained, in nats, each with what it could have been at most.

    ``held_out`` is by the side of the student's that is contrasted, "picture" or "text", on the same pairs at every
    evaluation; ``training`` is from the loss on each batch, both sides together.
    """

    held_out: dict[str, Series]
    held_out_most: float
    held_out_pairs: int
    training: Series
    training_most: float
    batch_size: int


def bound(logits_RBB: NDArray[np.floating]) -> Floats:
    """log(B − 1) minus the loss of every row picking its own column, in nats, for each of R contrasts, float64 [R].

    It may be negative: it says nothing then. There are at least 2 pairs in a contrast.
    """
    top_RB1 = logits_RBB.max(axis=2, keepdims=True)
    log_sum_RB = top_RB1[..., 0] + np.log(np.exp(logits_RBB - top_RB1).sum(axis=2))
    loss_R = (log_sum_RB - np.diagonal(logits_RBB, axis1=1, axis2=2)).mean(axis=1, dtype=np.float64)
    found_R: Floats = math.log(logits_RBB.shape[1] - 1) - loss_R
    return found_R


def information_bounds(
    rows_PD: NDArray[np.floating], columns_PD: NDArray[np.floating], scale: float, num_draws: int = NUM_DRAWS
) -> InformationBounds:
    """The bounds for 1, 2, 4 ... negatives, up to half of the pairs, drawn without return.

    An interval is as wide as if the pairs were drawn from endlessly many: draws from few resemble one another, the more
    so the more of them are taken.

    Args:
        rows_PD: each picks its own among as many of the columns as are contrasted; ``columns_PD`` alike.
        scale: 1/τ, by which inner products are multiplied.

    Raises:
        ValueError: fewer than 3 pairs, or not as many rows as columns.
    """
    num_pairs = len(rows_PD)
    if num_pairs != len(columns_PD) or num_pairs < 3:
        raise ValueError(f"a bound needs 3 pairs or more, whole ones: {num_pairs} rows, {len(columns_PD)} columns")
    rows, columns = np.float32(scale) * rows_PD.astype(np.float32), columns_PD.astype(np.float32)
    negatives = [2**power for power in range(num_pairs.bit_length()) if 2**power <= num_pairs // 2]
    found_NR = np.array([_drawn(rows, columns, number + 1, num_draws) for number in negatives])
    mean_N = found_NR.mean(axis=1)
    likeness_N = 1 - (np.array(negatives) + 1) / num_pairs
    spread_NR = (found_NR - mean_N[:, None]) / np.sqrt(likeness_N)[:, None]
    low_N, high_N = mean_N + np.percentile(spread_NR, MIDDLE, axis=1)
    return InformationBounds(np.array(negatives, dtype=np.int64), mean_N, low_N, np.minimum(high_N, np.log(negatives)))


def _drawn(rows_PD: NDArray[np.float32], columns_PD: NDArray[np.float32], size: int, num_draws: int) -> Floats:
    """The bounds of so many draws, float64 [R]; as many as fit are taken from one shuffle, apart from each other."""
    generator = np.random.default_rng(derive_seed(0, "contrasts", size))
    num_pairs, apart = len(rows_PD), len(rows_PD) // size
    num_shuffles = math.ceil(num_draws / apart)
    shuffled = np.concatenate([generator.permutation(num_pairs)[: apart * size] for _ in range(num_shuffles)])
    chosen_RB = shuffled.reshape(-1, size)[:num_draws]
    at_once = max(1, MOST_LOGITS // size**2)
    parts = [chosen_RB[start : start + at_once] for start in range(0, num_draws, at_once)]
    return np.concatenate([bound(rows_PD[part] @ columns_PD[part].transpose(0, 2, 1)) for part in parts])


def known_answer(information: float, num_pairs: int, width: int = 16) -> tuple[Floats, Floats]:
    """Pairs of normal vectors that share ``information`` nats, as rows and columns of the best scores there are.

    Every number of a row is correlated with its own in the column by r, with information = −½ · width · log(1 − r²).
    The scores are, but for a constant a row, log p(row, column) / (p(row) p(column)), so that at a scale of 1 nothing
    but the number of negatives keeps the bound from the truth.

    Returns:
        float64 [P, D] twice, with D = width + 1.
    """
    square = 1 - math.exp(-2 * information / width)
    generator = np.random.default_rng(derive_seed(0, "known answer"))
    one_PD, other_PD = generator.standard_normal((2, num_pairs, width))
    column_PD = math.sqrt(square) * one_PD + math.sqrt(1 - square) * other_PD
    length_P1 = -square / (2 * (1 - square)) * (column_PD**2).sum(axis=1, keepdims=True)
    row_PD = math.sqrt(square) / (1 - square) * one_PD
    return np.hstack([row_PD, np.ones((num_pairs, 1))]), np.hstack([column_PD, length_P1])


def information_over_time(events: Iterable[Event], blocks: Sequence[int]) -> InformationOverTime | None:
    """What a run said of its bounds; None of one that trains without icl, or has said nothing yet.

    Args:
        blocks: of how many held-out pairs each contrast of an evaluation is.
    """
    events = list(events)
    training = {one.step: one.terms["icl"] for one in events if isinstance(one, StepDone) and "icl" in one.terms}
    evaluations = [one for one in events if isinstance(one, EvalDone) and one.split == "validation"]
    measured = [one for one in evaluations if HELD_OUT["picture"] in one.metrics]
    started = [one for one in events if isinstance(one, RunStarted)]
    if not (training and started):
        return None
    most = math.log(started[-1].batch_size - 1)
    return InformationOverTime(
        {side: _series({one.step: one.metrics[name] for one in measured}) for side, name in HELD_OUT.items()},
        sum(size * math.log(size - 1) for size in blocks) / sum(blocks) if measured else math.nan,
        measured[-1].num_pairs if measured else 0,
        _series({step: most - loss for step, loss in training.items()}),
        most,
        started[-1].batch_size,
    )


def _series(points: Mapping[int, float]) -> Series:
    steps = sorted(points)
    return Series(np.array(steps, dtype=np.int64), np.array([points[step] for step in steps], dtype=np.float64))
