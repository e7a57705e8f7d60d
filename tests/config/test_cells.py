"""Values that a search is asked to try, and the messages for those that it refuses."""

import pytest

from workbench.config.base import Choices, Range
from workbench.config.cells import about, check_values, parse_values
from workbench.config.study import Study

SEARCH = {
    "loss.fd.weight": Range(low=1.0, high=100.0, log=True),
    "loss.crd.weight": Range(low=0, high=8, step=2),
    "loss.mfd.mask_ratio": Choices(choices=[0.25, 0.5]),
}


@pytest.fixture(scope="module")
def study() -> Study:
    return Study(name="hunt", question="Which?", search=SEARCH, trials=2)


def test_search_ranges_as_text():
    assert [about(axis) for axis in SEARCH.values()] == [
        "1 to 100, log scale",
        "0 to 8, in steps of 2",
        "one of 0.25, 0.5",
    ]
    assert about(Range(low=0.5, high=2.0)) == "0.5 to 2"


def test_values_are_read_as_they_are_typed(study):
    assert parse_values(study, ["loss.fd.weight=1e1", "loss.crd.weight=4"]) == {
        "loss.fd.weight": 10.0,
        "loss.crd.weight": 4,
    }
    assert parse_values(study, []) == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss.fd.weight": 200}, r"^loss.fd.weight = 200 is outside 1 to 100, log scale$"),
        ({"loss.fd.weight": 5, "loss.crd.weight": 3}, "in steps of 2"),
        ({"loss.crd.weight": True}, "= True is outside"),
        ({"loss.fd.wieght": 5}, "unknown setting of the search 'loss.fd.wieght': did you mean 'loss.fd.weight'"),
    ],
)
def test_what_a_search_would_not_try_is_refused(study, values, message):
    with pytest.raises(ValueError, match=message):
        check_values(study, values)
