import pytest

from workbench.engine.doctor.finding import Finding


def test_what_is_wrong_has_a_remedy_and_what_is_right_has_none() -> None:
    assert Finding("device", "ok", "a GPU").to_json() == {
        "check": "device",
        "level": "ok",
        "message": "a GPU",
        "remedy": "",
    }
    with pytest.raises(AssertionError):
        Finding("device", "problem", "no GPU")
    with pytest.raises(AssertionError):
        Finding("device", "ok", "a GPU", "buy another")
