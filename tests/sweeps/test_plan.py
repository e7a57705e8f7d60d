"""Every cell at every seed trains exactly once, and only with cells that it may share batches with."""

import time
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.config.cells import Cell, cells_of, example_cells
from workbench.config.run import RunConfig
from workbench.config.study import Study
from workbench.runs.studies import load_study, studies
from workbench.sweeps.plan import check_study, groups, may_train_together

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


GRID = {"name": "mine", "question": "Q?", "recipe": "fd", "grid": {"loss.fd.weight": [0, 2000]}}
SEARCH = {"name": "mine", "question": "Q?", "recipe": "mfd", "trials": 2}


def check(**changes: object) -> None:
    study = Study.parse(GRID | changes)
    check_study(study, cells_of(study) or example_cells(study))


@pytest.mark.parametrize("name", sorted(studies()))
def test_every_shipped_study_can_be(name: str) -> None:
    study = load_study(name)
    check_study(study, cells_of(study) or example_cells(study))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objectives": [{"metric": "image_to_text_r2"}]}, "unknown objective 'image_to_text_r2': did you mean"),
        ({"objectives": [{"metric": "loss_converged"}]}, "unknown objective 'loss_converged'"),
        (
            {"recipe": "baseline", "objectives": [{"metric": "cka"}], "grid": {"loss.clip.weight": [1, 2]}}
            | {"settings": {"teacher.model": ""}},
            "objective cka needs a teacher, and cell '1' has none: .*--set teacher.model=SPEC",
        ),
        (
            {"settings": {"data.validation": "", "data.test": ""}},
            "objective image_to_text_r1: cell '0' has no evaluation: .*--set data.validation=SPEC",
        ),
        ({"grid": {"loss.fd.wieght": [1, 2]}}, "cell '1': unknown setting of loss.fd 'wieght': did you mean 'weight'"),
        (
            {"recipe": "icl", "grid": {"loss.icl.temperature": [0.1, -1]}},
            r"cell '-1': loss\.icl\.temperature: .*a temperature is a positive number",
        ),
        (
            {"recipe": "mfd", "grid": {"loss.mfd.mask_ratio": [0.5, 1.5]}},
            "cell '1.5': loss.mfd: mask_ratio is",
        ),
    ],
)
def test_an_invalid_grid_is_refused_with_the_cells_name(changes: dict[str, object], said: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ValueError, match=said):
        check(**changes)
    assert time.perf_counter() - start < 5  # and so no model was loaded


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"search": {"loss.mfd.mask_ratio": {"low": 0.1, "high": 1.2}}},
            "mask_ratio=1.2': .*mask_ratio",
        ),
        ({"search": {"loss.mfd.mask_feeds": {"choices": ["all", "non"]}}}, r"cell 'loss\.mfd\.mask_feeds=non'"),
        (
            {"search": {"loss.mfd.weight": {"low": 1, "high": 2}}, "budget": {"num_parms": 9}},
            "unknown budget 'num_parms'",
        ),
    ],
)
def test_a_search_is_tried_at_every_end_and_choice(changes: dict[str, object], said: str) -> None:
    study = Study.parse(SEARCH | changes)
    with pytest.raises(ValueError, match=said):
        check_study(study, example_cells(study))
