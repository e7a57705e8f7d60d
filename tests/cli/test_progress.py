"""Progress lines: what fails in them does not end the training."""

import pytest

from workbench.cli import progress
from workbench.cli.progress import show
from workbench.events import Warned


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("error", [ValueError("zip() argument 2 is longer"), OSError(28, "No space left on device")])
def test_a_display_that_fails_is_reported_once_and_the_events_go_on(monkeypatch, capsys, is_terminal, error) -> None:
    def fail(*_: object) -> None:
        raise error

    view = progress._Bars if is_terminal else progress._Lines
    monkeypatch.setattr(view, "show", fail)
    monkeypatch.setattr(type(progress.errors), "is_terminal", is_terminal)
    events = [Warned(run="fd", step=step, message="x") for step in range(3)]
    assert list(show(events, 3)) == events
    said = [line for line in capsys.readouterr().err.splitlines() if "no longer shown" in line]
    assert len(said) == 1
    assert "workbench runs show fd" in said[0]
