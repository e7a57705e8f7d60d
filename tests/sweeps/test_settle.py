"""Which seeds a sequential study asks for next: open cells and their baseline, until a verdict or the most seeds."""

from types import SimpleNamespace

import pytest

from workbench.config.study import CellConfig, Study
from workbench.sweeps.ledger import Trial
from workbench.sweeps.outcome import Outcome
from workbench.sweeps.settle import open_cells, wanted_seeds

CELLS = [SimpleNamespace(name=name) for name in ("base", "near", "far")]
BASE, NEAR, FAR = [0.10, 0.12, 0.11], [0.11, 0.115, 0.125], [0.50, 0.52, 0.51]


def study(**settings):
    cells = [CellConfig(name=cell.name) for cell in CELLS]
    return Study(name="mine", question="?", cells=cells, **{"baseline": "base", "most_seeds": 8} | settings)


def trial(name, values, asked=None):
    """A trial that finished with these values; None is a run that diverged."""
    outcomes = {
        seed: Outcome(run="", host="", state="diverged")
        if value is None
        else Outcome(run="", host="", state="finished", test_metrics={"image_to_text_r1": value})
        for seed, value in enumerate(values)
    }
    return Trial(0, name, {}, tuple(range(asked or len(values))), outcomes, True, "", None)


def newest(base=BASE, near=NEAR, far=FAR):
    return {"base": trial("base", base), "near": trial("near", near), "far": trial("far", far)}


def stops(*arguments, **settings):
    """The number of seeds that each cell is to have."""
    return {name: seeds.stop for name, seeds in wanted_seeds(study(**settings), CELLS, *arguments).items()}


def test_a_fixed_number_of_seeds_stays():
    assert stops(newest(), most_seeds=0) == {"base": 3, "near": 3, "far": 3}


def test_only_open_cells_and_the_baseline_get_another_seed():
    assert open_cells(study(), newest()) == ["near"]
    assert stops({}) == {"base": 3, "near": 3, "far": 3}
    assert stops(newest()) == {"base": 4, "near": 4, "far": 3}
    assert stops(newest(), 2) == {"base": 5, "near": 5, "far": 3}


def test_there_is_one_look_at_a_time():
    now = newest() | {"base": trial("base", BASE, 4), "near": trial("near", [*NEAR, 0.12], 4)}
    assert stops(now) == {"base": 4, "near": 4, "far": 3}  # the baseline's fourth run has not ended


def test_it_ends_at_the_most_seeds_and_once_all_is_settled():
    eight = newest([0.1, 0.12] * 4, [0.11, 0.115] * 4)
    assert stops(eight) == {"base": 8, "near": 8, "far": 3}
    same = newest(near=[0.102, 0.121, 0.111])
    assert open_cells(study(margin=50), same) == []
    assert stops(same, margin=50) == {"base": 3, "near": 3, "far": 3}


def test_a_cell_that_diverges_is_not_repeated_for_ever():
    assert stops(newest(near=[0.11, None, 0.12])) == {"base": 3, "near": 3, "far": 3}
    assert stops(newest(base=[0.11, None, 0.12])) == {"base": 3, "near": 3, "far": 3}


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"baseline": ""}, "name it with baseline"), ({"margin": -1}, "margin"), ({"margin": float("nan")}, "margin")],
)
def test_a_study_that_cannot_be_settled_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        study(**settings)
