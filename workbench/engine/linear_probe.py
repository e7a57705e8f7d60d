"""Linear probes of an existing model: its image features of labeled images, next to zero-shot classification."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import variance

import torch

from workbench.engine.build import make_evaluator
from workbench.engine.evaluate import Evaluator
from workbench.engine.remeasure import Source, open_pairs, open_source
from workbench.evaluation.linear_probe import Labeled, Probe, probes
from workbench.evaluation.retrieval import ItemScores
from workbench.statistics.intervals import Estimate, seed_mean


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of the probes with one number of shots, a mean over seeds with its t-interval.

    Attributes:
        shots: labeled images per class; 0 for all, with one seed.
        l2: the chosen penalty of each seed.
        error: standard error over seeds and test images: √(sd² / S + mean of p (1 − p) / N over the S seeds).
    """

    shots: int
    estimate: Estimate
    l2: tuple[float, ...]
    error: float


@dataclass(frozen=True)
class Probed:
    """Zero-shot classification and linear probes on the same test images."""

    num_train: int
    num_test: int
    num_classes: int
    zero_shot: ItemScores | None  # None if the test data have no class prompts, or prompts of other classes
    accuracies: tuple[Accuracy, ...]
    elapsed_s: float


def probe_source(
    source: str,
    train: str,
    data: str | None,
    *,
    shots: Sequence[int],
    num_seeds: int,
    num_pairs: int | None = None,
    runs_dir: Path = Path("runs"),
) -> Probed:
    """Linear probes of the model at ``source``, trained on the SPEC ``train`` and tested on ``data``.

    Features are the raw image embeddings, computed once. Arguments are those of ``engine.remeasure.remeasure``, and:

    Args:
        shots: labeled images per class; 0 for all.
        num_seeds: seeds 0, 1 and so on draw the images.

    Raises:
        ValueError: there is no model or no data, an image has no class, a test class has no training images, or a class
            has fewer than the shots.
    """
    start_s = time.perf_counter()
    model = open_source(source, runs_dir)
    tested = open_pairs(model, data, num_pairs)
    config = model.config
    trained = make_evaluator(config, train, "train", 0, None, model.device, prepare=config.data.prepare)
    called = f"--linear-probe {train}", f"--data {data}" if data else "the run's validation pairs"
    return replace(
        probe_evaluators(model, trained, tested, called, shots=shots, num_seeds=num_seeds),
        elapsed_s=time.perf_counter() - start_s,
    )


def probe_evaluators(
    model: Source,
    trained: Evaluator,
    tested: Evaluator,
    called: tuple[str, str],
    *,
    shots: Sequence[int],
    num_seeds: int,
) -> Probed:
    """The probes of :func:`probe_source` on opened images; ``called`` names the two sets in errors."""
    start_s = time.perf_counter()
    train_names, test_names = (_classes(pairs, what) for pairs, what in zip((trained, tested), called, strict=True))
    numbers = _numbered(train_names, test_names, called[0], max(shots))
    train_set, test_set = (
        Labeled(pairs.image_features(model.student), torch.tensor([numbers[name] for name in names]).to(model.device))
        for pairs, names in ((trained, train_names), (tested, test_names))
    )
    found = probes(train_set, test_set, len(numbers), shots, range(num_seeds))
    task = tested.pairs.task
    return Probed(
        num_train=len(train_names),
        num_test=len(test_names),
        num_classes=len(numbers),
        zero_shot=None if task and task.answers else tested.zero_shot(model.student, test_set.features_ND),
        accuracies=tuple(_accuracy(k, [probe for probe in found if probe.shots == k]) for k in shots),
        elapsed_s=time.perf_counter() - start_s,
    )


def _classes(evaluator: Evaluator, what: str) -> list[str]:
    """The class of each image."""
    if evaluator.pairs.classes_N is None:
        raise ValueError(f"{what} has images without a class, and a linear probe needs one for each, as in folder:DIR")
    return evaluator.pairs.classes_N


def _numbered(train: Sequence[str], test: Sequence[str], called: str, most_shots: int) -> dict[str, int]:
    """The number of each class of the training images, after checking that there are enough of each."""
    counts = Counter(train)
    if missing := sorted(set(test) - counts.keys()):
        raise ValueError(
            f"{called} has no images of {len(missing)} classes of the test images, first {missing[0]!r}: "
            "give training images of the same classes, with the same names"
        )
    rare = min(counts, key=counts.__getitem__)
    if counts[rare] < most_shots:
        raise ValueError(
            f"{called} has {counts[rare]} images of the class {rare!r}, fewer than {most_shots} shots: "
            "lower --shots, or add images"
        )
    if len(counts) < 2:
        raise ValueError(f"{called} has images of one class only, {rare!r}: at least two are needed")
    return {name: number for number, name in enumerate(sorted(counts))}


def _accuracy(shots: int, found: Sequence[Probe]) -> Accuracy:
    estimate = seed_mean([probe.accuracy for probe in found])
    of_items = sum(probe.accuracy * (1 - probe.accuracy) / len(probe.hit_N) for probe in found) / len(found)
    of_seeds = variance(estimate.per_seed) / len(found) if len(found) > 1 else 0.0
    return Accuracy(shots, estimate, tuple(probe.l2 for probe in found), (of_seeds + of_items) ** 0.5)
