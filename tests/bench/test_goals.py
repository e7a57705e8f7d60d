import pytest

from workbench.bench.contest import Row
from workbench.bench.data import CASES, KINDS
from workbench.bench.goals import GOALS, reached

TABLES = {
    "cohort": [
        Row("8 runs, one after another", 128, 8.0, ratio=1.0),
        Row("8 members, one cohort", 128, 4.0, ratio=2.0, floor_ratio=1.25),
        Row("8 members, one cohort, stacked", 128, 1.5, ratio=5.3, floor_ratio=1.5),
    ],
    "step": [Row("bare loop", 100, 1.0, ratio=1.05, floor_ratio=2.0)],
    "peer": [Row("open_clip", 128, 1.0, ratio=1.0), Row("workbench, prepared pictures", 128, 0.5, ratio=2.0)],
}


def test_a_goal_is_held_against_its_row() -> None:
    live, together, stacked, engine = reached(TABLES)
    assert (live.measured, live.is_reached) == (2.0, True)
    assert (together.measured, together.is_reached) == (0.8, False)  # 1 / 1.25 of what is possible, where 0.9 is wanted
    assert (stacked.measured, stacked.is_reached) == (1.5, True)  # at most 2 steps
    assert (engine.measured, engine.is_reached) == (1.05, False)
    assert engine.to_json() == {
        "name": "the engine's step, in bare loops",
        "wanted": 1.03,
        "at_most": True,
        "measured": 1.05,
        "is_reached": False,
    }


def test_what_was_not_measured_reaches_nothing() -> None:
    assert reached({}) == []
    assert reached({"cohort": [Row("8 members, one cohort", 128, 4.0)]}) == []


@pytest.mark.parametrize("goal", [goal for goal in GOALS if goal.bench == "data"])
def test_a_goal_of_data_names_a_row_of_theirs(goal) -> None:
    """The other commands' rows are named by constants."""
    case, _, kind = goal.case.split(", ")
    assert case in CASES and kind in KINDS
