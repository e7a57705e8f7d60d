"""Against scipy's Kendall τ, and against every order written out."""

import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from workbench.statistics.rank_agreement import rank_agreement

lists = st.integers(3, 6).flatmap(
    lambda n: st.tuples(*(st.lists(st.integers(0, 5), min_size=n, max_size=n) for _ in range(2)))
)


@given(lists)
def test_tau_and_its_chance_are_those_of_every_order(pair):
    ours, theirs = pair
    assume(len(set(ours)) > 1 and len(set(theirs)) > 1)
    found = rank_agreement(ours, theirs)
    assert found.tau == pytest.approx(kendalltau(ours, theirs).statistic)
    every = (
        [abs(kendalltau(order, theirs).statistic) for order in itertools.permutations(ours)] if len(ours) < 5 else []
    )
    if every:
        expected = sum(tau >= abs(found.tau) - 1e-9 for tau in every) / len(every)
        assert found.p_value == pytest.approx(expected)
        most = sum(tau >= max(every) - 1e-9 for tau in every) / len(every)
        assert found.least_p_value == pytest.approx(most)


@pytest.mark.parametrize("order", [[1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1], [2, 1, 4, 3, 7, 5, 6]])
def test_without_ties_the_chance_is_scipys_exact_one(order):
    expected = kendalltau(order, range(7), method="exact")
    found = rank_agreement(order, list(range(7)))
    assert (found.tau, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))


def test_many_cells_are_left_to_scipy():
    ours, theirs = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3], [2, 7, 1, 8, 2, 8, 1, 8, 2, 8]
    assert rank_agreement(ours, theirs).p_value == pytest.approx(kendalltau(ours, theirs).pvalue)


def test_the_interval_is_as_wide_as_the_order_is_unsure():
    ours, theirs = [0.30, 0.34, 0.36, 0.40], [1, 2, 3, 4]
    sure, unsure, unknown = (rank_agreement(ours, theirs, *given) for given in ((0.001, 6), (0.03, 6), (math.nan, 0)))
    assert (sure.low, sure.high) == (1, 1)
    assert unsure.low < 0.6
    assert unsure.high == 1
    assert (unknown.low, unknown.high) == (-1, 1)
    assert rank_agreement(ours, theirs, 0.03, 6) == unsure


@pytest.mark.parametrize(("ours", "theirs"), [([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [0, 0, 0])])
def test_too_few_cells_or_all_ties_have_no_agreement(ours, theirs):
    assert rank_agreement(ours, theirs) is None
