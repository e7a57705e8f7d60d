import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workbench.data.samples.scenes.draws import bits, picture_seeds, uniforms

WORD = 2**64


def splitmix64(seed: int, num: int) -> list[int]:
    """The published algorithm, number after number in Python's integers."""
    words = []
    for _ in range(num):
        seed = (seed + 0x9E3779B97F4A7C15) % WORD
        word = (seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9 % WORD
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % WORD
        words.append(word ^ (word >> 31))
    return words


@given(st.lists(st.integers(0, WORD - 1), min_size=1, max_size=4))
def test_bits_are_those_of_splitmix64(seeds):
    drawn = bits(np.array(seeds, dtype=np.uint64), 5)
    assert drawn.tolist() == [splitmix64(seed, 5) for seed in seeds]


def test_uniforms_fill_the_unit_interval_evenly():
    drawn = uniforms(picture_seeds("train", 0, 500), 200)
    counts, _ = np.histogram(drawn, bins=10, range=(0, 1))
    assert abs(counts / drawn.size - 0.1).max() < 0.005
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.15


def test_every_picture_of_every_split_has_its_own_seed():
    seeds = np.concatenate([picture_seeds(split, 0, 300) for split in ("train", "teacher", "validation", "test")])
    assert len(np.unique(seeds)) == 1_200
