"""A study that cannot be is refused before a model is loaded or a step is taken."""

import time

import pytest

from workbench.config.cells import cells_of, example_cells
from workbench.config.study import Study, load_study, studies
from workbench.sweeps.check import check_study

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
            "objective cka is measured against a teacher, and cell '1' has none: .*--set teacher.model=SPEC",
        ),
        (
            {"settings": {"data.validation": "", "data.test": ""}},
            "objective image_to_text_r1: nothing is evaluated in cell '0': .*--set data.validation=SPEC",
        ),
        ({"grid": {"loss.fd.wieght": [1, 2]}}, "cell '1': unknown setting of loss.fd 'wieght': did you mean 'weight'"),
        (
            {"recipe": "icl", "grid": {"loss.icl.temperature": [0.1, 0.05]}},
            r"cell '0\.1': loss\.icl\.temperature: .*loss\.icl\.scale=10\.0",
        ),
        (
            {"recipe": "mfd", "grid": {"loss.mfd.mask_ratio": [0.5, 1.5]}},
            "cell '1.5': loss.mfd: mask_ratio is",
        ),
    ],
)
def test_a_grid_that_cannot_be_is_refused_with_its_cell(changes: dict[str, object], said: str) -> None:
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
