import math

from workbench.engine.schedule import learning_rate


def test_it_rises_linearly_then_falls_as_half_a_cosine() -> None:
    rates = [learning_rate(step, 100, 2.0, 0.1) for step in range(100)]
    assert rates[:10] == [2.0 * (step + 1) / 10 for step in range(10)]
    assert rates[10] == 2.0
    assert rates[55] == 2.0 * 0.5 * (1 + math.cos(math.pi / 2))
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[99] < 0.001


def test_without_warm_up_it_starts_at_the_peak() -> None:
    assert learning_rate(0, 10, 3.0, 0.0) == 3.0
