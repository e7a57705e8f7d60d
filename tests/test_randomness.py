"""Seeds are functions of their purpose, the same everywhere and unrelated to one another."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.randomness import derive_seed

keys = st.lists(st.one_of(st.integers(0, 10**6), st.text(st.characters(codec="ascii", exclude_categories=["Cc"]))))


def test_seeds_are_pinned_so_that_runs_repeat_on_every_machine_and_version():
    assert derive_seed(0, "crop", "000017", 3) == 4943234512064774563
    assert derive_seed(1, "initialise") == 729560513243881404


@settings(deadline=None)
@given(st.integers(-(2**40), 2**40), st.text(max_size=9), keys)
def test_a_seed_has_63_bits_and_depends_on_nothing_else(seed, purpose, some):
    first = derive_seed(seed, purpose, *some)
    assert 0 <= first < 2**63
    assert derive_seed(seed, purpose, *some) == first


def test_any_difference_gives_another_seed():
    seeds = {
        derive_seed(seed, purpose, *key)
        for seed in range(10)
        for purpose in ("order", "crop", "caption")
        for key in [(), *[(number,) for number in range(50)], *[(f"k{number}", 1) for number in range(50)]]
    }
    assert len(seeds) == 10 * 3 * 101


def test_key_boundaries_matter():
    assert derive_seed(0, "a", "b", "c") != derive_seed(0, "a", "bc")
    assert derive_seed(0, "a", 1, 23) != derive_seed(0, "a", 12, 3)
    assert derive_seed(1, "1") != derive_seed(11, "")


def test_neighboring_keys_have_unrelated_bits():
    seeds = [derive_seed(0, "order", number) for number in range(4000)]
    for bit in range(63):
        share = sum(seed >> bit & 1 for seed in seeds) / len(seeds)
        assert abs(share - 0.5) < 5 * 0.5 / len(seeds) ** 0.5  # five standard errors
    changed = [(a ^ b).bit_count() for a, b in itertools.pairwise(seeds)]
    assert abs(sum(changed) / len(changed) - 31.5) < 5 * (63 / 4 / len(changed)) ** 0.5
