"""A database that goes away for a while, and one that stays away."""

import pytest
from sqlalchemy.exc import OperationalError

from workbench.sweeps import worker
from workbench.sweeps.worker import MOST_TRIES, retry_while_unreachable


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(worker, "FIRST_WAIT_S", 0.0)


def failing(num_failures):
    """A step that the database refuses so often, and that then has three more to take."""
    calls = []

    def step():
        calls.append(1)
        if len(calls) <= num_failures:
            raise OperationalError("SELECT 1", {}, Exception("server closed the connection\nmore"))
        return len(calls) < num_failures + 3

    return step, calls


def test_it_goes_on_where_it_was():
    step, calls = failing(MOST_TRIES - 1)
    said = []
    retry_while_unreachable(step, lambda: False, said.append)
    assert len(calls) == MOST_TRIES + 2
    assert len(said) == MOST_TRIES - 1
    assert "server closed the connection)" in said[0]


def test_it_gives_up_in_one_line():
    step, calls = failing(99)
    with pytest.raises(ValueError, match=r"is unreachable \(server closed the connection\).*repeat the command"):
        retry_while_unreachable(step, lambda: False, lambda _: None)
    assert len(calls) == MOST_TRIES


def test_a_request_to_stop_comes_first():
    step, calls = failing(0)
    retry_while_unreachable(step, lambda: len(calls) == 1, lambda _: None)
    assert len(calls) == 1
