from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.shares import largest_remainder


@pytest.mark.parametrize(
    ("total", "ratios", "shares"),
    [
        (128, [2, 1], [85, 43]),
        (10, [1, 1, 1], [4, 3, 3]),
        (7, [1], [7]),
        (100, [0.5, 0.25, 0.25], [50, 25, 25]),
        (3, [100, 1], [3, 0]),
    ],
)
def test_shares(total: int, ratios: list[float], shares: list[int]) -> None:
    assert largest_remainder(total, ratios) == shares


@given(total=st.integers(0, 10_000), ratios=st.lists(st.integers(1, 1000), min_size=1, max_size=6))
def test_shares_add_up_and_are_off_by_less_than_one(total: int, ratios: list[int]) -> None:
    shares = largest_remainder(total, ratios)
    assert sum(shares) == total
    exact = [Fraction(total * ratio, sum(ratios)) for ratio in ratios]
    assert all(abs(share - one) < 1 for share, one in zip(shares, exact, strict=True))
