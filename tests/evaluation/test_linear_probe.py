"""Linear probes against scipy's minimizer and on features whose answer is known."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp

from workbench.evaluation.linear_probe import ALL, Labeled, fit, linear_probe, probes

NUM_CLASSES = 4


def blobs(num: int, noise: float, seed: int) -> Labeled:
    """Images of four classes around the corners of a square, in eight features."""
    generator = np.random.default_rng(seed)
    labels = np.arange(num) % NUM_CLASSES
    corners = np.random.default_rng(0).normal(size=(NUM_CLASSES, 8))
    features = corners[labels] + noise * generator.normal(size=(num, 8))
    return Labeled(torch.tensor(features, dtype=torch.float32), torch.tensor(labels))


@pytest.mark.parametrize("l2", [0.1, 1.0, 100.0])
def test_the_fit_is_the_minimum_that_scipy_finds(l2: float) -> None:
    train = blobs(60, 1.0, 1)
    x, y = train.features_ND.double().numpy(), train.class_N.numpy()

    def objective(flat: np.ndarray) -> float:
        weight, bias = flat[:-NUM_CLASSES].reshape(NUM_CLASSES, 8), flat[-NUM_CLASSES:]
        logits = x @ weight.T + bias
        nll = logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]
        return float(nll.mean() + l2 / (2 * len(y)) * (weight**2).sum())

    found = minimize(
        objective, np.zeros(NUM_CLASSES * 9), method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-14, "gtol": 1e-9}
    )
    weight_KD, bias_K = fit(train, NUM_CLASSES, l2)
    mine = np.concatenate([weight_KD.numpy().ravel(), bias_K.numpy()])
    assert objective(mine) <= found.fun + 1e-9
    # Biases are determined up to a common constant.
    np.testing.assert_allclose(weight_KD.numpy(), found.x[:-NUM_CLASSES].reshape(NUM_CLASSES, 8), rtol=5e-3, atol=2e-3)


def test_separable_classes_are_solved_and_random_labels_are_at_chance() -> None:
    clear = linear_probe(blobs(200, 0.01, 1), blobs(400, 0.01, 2), NUM_CLASSES, ALL, 0)
    assert clear.accuracy == 1
    train = blobs(200, 0.5, 1)
    shuffled = Labeled(
        train.features_ND, train.class_N[torch.randperm(200, generator=torch.Generator().manual_seed(3))]
    )
    assert abs(linear_probe(shuffled, blobs(2000, 0.5, 2), NUM_CLASSES, ALL, 0).accuracy - 0.25) < 0.15


def test_more_shots_help_and_seeds_repeat() -> None:
    train, test = blobs(400, 1.2, 1), blobs(1000, 1.2, 2)
    results = probes(train, test, NUM_CLASSES, (1, 4, 16, ALL), (0, 1, 2))
    assert [(probe.shots, probe.seed) for probe in results] == [
        *((k, seed) for k in (1, 4, 16) for seed in (0, 1, 2)),
        (ALL, 0),
    ]
    means = [np.mean([probe.accuracy for probe in results if probe.shots == k]) for k in (1, 4, 16)]
    assert means[0] < means[1] < means[2] < results[-1].accuracy + 0.05
    again = linear_probe(train, test, NUM_CLASSES, 4, 1)
    (same,) = (probe for probe in results if (probe.shots, probe.seed) == (4, 1))
    assert torch.equal(again.hit_N, same.hit_N)


def test_noisy_features_choose_a_larger_penalty() -> None:
    sharp = linear_probe(blobs(80, 0.05, 1), blobs(80, 0.05, 2), NUM_CLASSES, ALL, 0)
    noisy = linear_probe(blobs(400, 4.0, 1), blobs(80, 4.0, 2), NUM_CLASSES, ALL, 0)
    assert noisy.l2 > sharp.l2


def test_a_class_with_too_few_images_is_named() -> None:
    train = blobs(12, 0.1, 1)
    with pytest.raises(ValueError, match="class 0 has 3 training images, fewer than 4"):
        linear_probe(train, train, NUM_CLASSES, 4, 0)
