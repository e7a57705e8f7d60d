"""Against effects that were put in, and the same contrast written out."""

import numpy as np
import pytest

from workbench.statistics.effects import main_effects
from workbench.statistics.pooled import pooled_spread

A, B = (0, 1), ("x", "y", "z")
LEVELS = {f"{a}{b}": {"a": a, "b": b} for a in A for b in B}


def outcomes(noise: float) -> dict[str, dict[int, float]]:
    generator = np.random.default_rng(0)
    seed_S = generator.normal(size=3)
    return {
        cell: {
            seed: float(2.0 * of["a"] + {"x": 0, "y": 3, "z": -3}[of["b"]] + seed_S[seed] + noise * generator.normal())
            for seed in range(3)
        }
        for cell, of in LEVELS.items()
    }


def test_effects_that_were_put_in_come_out():
    found = {(one.setting, one.level): one.gain for one in main_effects(outcomes(0.0), LEVELS)}
    assert {key: round(gain.mean, 9) for key, gain in found.items()} == {
        ("a", 0): -1, ("a", 1): 1, ("b", "x"): 0, ("b", "y"): 3, ("b", "z"): -3
    }  # fmt: skip


def test_the_interval_is_that_of_the_contrast():
    values = outcomes(0.5)
    found = {(one.setting, one.level): one.gain for one in main_effects(values, LEVELS)}
    spread = pooled_spread(values)
    weight = {cell: (1 / 2 if of["b"] == "y" else 0) - 1 / 6 for cell, of in LEVELS.items()}
    expected = [sum(weight[cell] * values[cell][seed] for cell in LEVELS) for seed in range(3)]
    gain = found["b", "y"]
    assert gain.per_seed == pytest.approx(expected)
    variance = spread.sd**2 / 2 * sum(w * w for w in weight.values())
    assert gain.high - gain.mean == pytest.approx(spread.half_width(3) / spread.sd * variance**0.5)


def test_a_seed_with_a_missing_cell_is_left_out():
    values = outcomes(0.5)
    del values["1z"][2]
    assert all(len(one.gain.per_seed) == 2 for one in main_effects(values, LEVELS))
    values["1z"] = {}
    assert main_effects(values, LEVELS) == []
