"""Linear probes of frozen image features: logistic regression on all labels or on a few per class.

The protocol is CLIP's (Radford et al. 2021, section 3.2 and appendix A.3): L-BFGS, an L2 penalty chosen on a held-out
part of the training set, then a fit on the whole of it. Shape letters: N images, D features, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.progress import with_bar
from workbench.randomness import derive_seed

# CLIP searches 1e-6 to 1e6, first in steps of 100, then halves the step (on a log scale) around the best until there
# are 8 steps a decade. Of equally good penalties the first is taken: the one nearest to 1.
COARSE = tuple(10.0**power for power in (0, 2, -2, 4, -4, 6, -6))
FINEST = 10 ** (1 / 8)
MAX_ITERATIONS = 1000
HELD_OUT = 0.2  # share of each class that chooses the penalty; at least one image
ALL = 0  # shots: every labeled image


@dataclass(frozen=True)
class Labeled:
    """Features [N, D] of images, and their classes, int64 [N] from 0 to K - 1."""

    features_ND: Tensor
    class_N: Tensor

    def rows(self, index_n: Tensor) -> "Labeled":
        """Some of the images."""
        return Labeled(self.features_ND[index_n], self.class_N[index_n])


@dataclass(frozen=True)
class Probe:
    """Accuracy of one probe on the test images.

    Attributes:
        shots: labeled images per class; 0 for all.
        seed: chose them, and the held-out part.
        l2: the chosen penalty.
        hit_N: bool, whether each test image is classified correctly.
    """

    shots: int
    seed: int
    l2: float
    hit_N: Tensor

    @property
    def accuracy(self) -> float:
        """Share of the test images classified correctly."""
        return float(self.hit_N.double().mean())


def linear_probe(train: Labeled, test: Labeled, num_classes: int, shots: int, seed: int) -> Probe:
    """A probe trained on ``shots`` images of every class (0: on all), with its penalty chosen on held-out ones.

    Raises:
        ValueError: a class without training images, or too few to hold any out.
    """
    counts_K = torch.bincount(train.class_N, minlength=num_classes)
    if int(counts_K.min()) < (shots or 1):
        rare = int(counts_K.argmin())
        raise ValueError(f"class {rare} has {int(counts_K[rare])} training images, fewer than {shots or 1}")
    generator = torch.Generator().manual_seed(derive_seed(seed, "linear probe", shots))
    shuffled_N = torch.randperm(len(train.class_N), generator=generator)
    by_class = [shuffled_N[train.class_N[shuffled_N].cpu() == number] for number in range(num_classes)]
    chosen = [index_n[: shots or None] for index_n in by_class]
    l2 = _best_l2(train, chosen, num_classes)
    weight_KD, bias_K = fit(train.rows(torch.cat(chosen)), num_classes, l2)
    return Probe(shots, seed, l2, _hits(test, weight_KD, bias_K))


def probes(train: Labeled, test: Labeled, num_classes: int, shots: Sequence[int], seeds: Sequence[int]) -> list[Probe]:
    """A probe for every number of shots and every seed, with progress; all images need one seed only."""
    wanted = [(k, seed) for k in shots for seed in (seeds if k != ALL else seeds[:1])]
    return [linear_probe(train, test, num_classes, k, seed) for k, seed in with_bar(wanted, "fitting linear probes", 1)]


def fit(train: Labeled, num_classes: int, l2: float) -> tuple[Tensor, Tensor]:
    """Weights [K, D] and biases [K] that minimize the mean cross-entropy plus l2 / (2N) · ‖W‖², in float64.

    This is scikit-learn's objective with C = 1 / l2; biases carry no penalty.
    """
    features_ND, device = train.features_ND.double(), train.features_ND.device
    weight_KD = torch.zeros(num_classes, features_ND.shape[1], dtype=torch.float64, device=device, requires_grad=True)
    bias_K = torch.zeros(num_classes, dtype=torch.float64, device=device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight_KD, bias_K], max_iter=MAX_ITERATIONS, tolerance_grad=1e-8, line_search_fn="strong_wolfe"
    )

    def objective() -> float:
        optimizer.zero_grad()
        logits_NK = features_ND @ weight_KD.T + bias_K
        penalty = l2 / (2 * len(features_ND)) * weight_KD.square().sum()
        value = F.cross_entropy(logits_NK, train.class_N) + penalty
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return value.item()

    optimizer.step(objective)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return weight_KD.detach(), bias_K.detach()


def _best_l2(train: Labeled, chosen: Sequence[Tensor], num_classes: int) -> float:
    """The penalty with the highest accuracy on the last images of every class, after a fit on the others."""
    num_held = [max(1, round(HELD_OUT * len(index_n))) for index_n in chosen]
    if any(held == len(index_n) for held, index_n in zip(num_held, chosen, strict=True)):
        return 1.0  # one image a class: none can be held out, so the default of scikit-learn is taken
    fitted = train.rows(torch.cat([index_n[:-held] for held, index_n in zip(num_held, chosen, strict=True)]))
    held_out = train.rows(torch.cat([index_n[-held:] for held, index_n in zip(num_held, chosen, strict=True)]))
    scores: dict[float, float] = {}

    def score(l2: float) -> float:
        if l2 not in scores:
            scores[l2] = float(_hits(held_out, *fit(fitted, num_classes, l2)).double().mean())
        return scores[l2]

    best = max(COARSE, key=score)
    step = 10.0
    while step >= FINEST:
        best = max((best, best * step, best / step), key=score)
        step **= 0.5
    return best


@torch.no_grad()
def _hits(test: Labeled, weight_KD: Tensor, bias_K: Tensor) -> Tensor:
    logits_NK = test.features_ND.double() @ weight_KD.T + bias_K
    hit_N: Tensor = logits_NK.argmax(1) == test.class_N
    return hit_N
