"""Every cell at every seed trains exactly once, and only with cells that it may share batches with."""

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from workbench.config.cells import Cell
from workbench.config.run import RunConfig
from workbench.sweeps.plan import groups, may_train_together

BATCHES = st.sampled_from([32, 64, 128])
STUDENTS = st.sampled_from(["mini-w64", "mini-w96"])


@st.composite
def cells(draw):
    kinds = draw(st.lists(st.tuples(BATCHES, STUDENTS), min_size=1, max_size=12))
    return [
        Cell(f"c{index}", {}, RunConfig.parse({"train": {"batch_size": size}, "student": {"model": student}}))
        for index, (size, student) in enumerate(kinds)
    ]


@given(cells(), st.lists(st.integers(0, 5), unique=True, min_size=1), st.integers(0, 4))
def test_every_cell_at_every_seed_once(cells, seeds, at_once):
    planned = list(groups(cells, seeds, at_once))
    assert Counter((cell.name, group.seed) for group in planned for cell in group.cells) == Counter(
        (cell.name, seed) for cell in cells for seed in seeds
    )
    for group in planned:
        assert all(may_train_together(one, other) for one, other in pairwise(group.cells))
        assert not at_once or len(group.cells) <= at_once


@given(cells(), st.integers(1, 4))
def test_no_more_groups_than_needed(cells, at_once):
    kinds = Counter((cell.config.train.batch_size, cell.config.student.model) for cell in cells)
    assert len(list(groups(cells, [0], at_once))) == sum(-(-count // at_once) for count in kinds.values())
    assert len(list(groups(cells, [0]))) == len(kinds)
