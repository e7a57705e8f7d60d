"""Interactions of settings: against nested least squares by hand, and the share of false findings."""

import numpy as np
import pytest
from scipy import stats

from workbench.statistics.interactions import interactions


def test_one_pair_is_tested_as_two_nested_models_are():
    generator = np.random.default_rng(0)
    first_N, second_N, noise_N = generator.standard_normal((3, 40))
    value_N = first_N - second_N**2 + 0.7 * first_N * second_N + 0.3 * noise_N
    (found,) = interactions(np.stack([first_N, second_N], axis=1), value_N)
    columns = [np.ones(40), first_N, second_N, first_N**2, second_N**2]
    small, large = np.stack(columns, 1), np.stack([*columns, first_N * second_N], 1)
    rss = [((value_N - design @ np.linalg.pinv(design) @ value_N) ** 2).sum() for design in (small, large)]
    # Centering a setting moves its product into the effects of both alone, which the model has.
    assert found.share == pytest.approx(1 - rss[1] / rss[0], rel=1e-6)
    statistic = (rss[0] - rss[1]) / (rss[1] / (40 - 6))
    assert found.p_value == pytest.approx(stats.f.sf(statistic, 1, 34), rel=1e-5)
    assert (found.first, found.second, found.together) == (0, 1, 1)


def test_the_pair_that_interacts_is_found_among_ten_and_others_rarely_are():
    generator = np.random.default_rng(1)
    false = 0
    for _ in range(200):
        setting_NK = generator.uniform(size=(40, 5))
        setting_NK[:, 3] = np.round(3 * setting_NK[:, 3])  # choices
        value_N = setting_NK.sum(1) - setting_NK[:, 0] ** 2 + 0.2 * generator.standard_normal(40)
        false += any(one.p_value < 0.05 for one in interactions(setting_NK, value_N))
    assert false <= 0.05 * 200 + 3 * (200 * 0.05 * 0.95) ** 0.5
    value_N = value_N - 3 * setting_NK[:, 1] * setting_NK[:, 4]
    best, *others = interactions(setting_NK, value_N)
    assert len(others) == 9
    assert (best.first, best.second, best.together) == (1, 4, -1)
    assert best.p_value < 0.01


@pytest.mark.parametrize("num_trials", [0, 3, 8])
def test_too_few_configurations_or_a_setting_that_never_varies_say_nothing(num_trials):
    generator = np.random.default_rng(2)
    setting_NK = generator.uniform(size=(num_trials, 2))
    assert interactions(setting_NK, setting_NK.sum(1)) == []
    constant_NK = np.concatenate([generator.uniform(size=(30, 1)), np.ones((30, 1))], axis=1)
    assert interactions(constant_NK, constant_NK[:, 0]) == []
