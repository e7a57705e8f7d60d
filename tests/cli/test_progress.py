import pytest

from workbench import progress as shown
from workbench.cli import progress
from workbench.cli.progress import show
from workbench.events import EvalDone, EvalStarted, RunFinished, RunStarted, Warned
from workbench.progress import phase

STARTED = RunStarted(
    run="one",
    step=0,
    num_steps=3,
    batch_size=2,
    num_pairs=2,
    num_parameters=1,
    num_embedding_parameters=1,
    host="here",
    pid=1,
)


def measuring(split: str, num_pairs: int) -> EvalStarted:
    return EvalStarted(run="one", step=3, split=split, num_pairs=num_pairs)


def test_the_test_of_many_pairs_says_how_to_leave_it_out(capsys: pytest.CaptureFixture[str]) -> None:
    list(show([STARTED, measuring("validation", 5000), measuring("test", 5000), measuring("test", 40)], 3))
    (line,) = capsys.readouterr().err.splitlines()
    assert "5,000 test pairs" in line
    assert "--no-test" in line
    assert "--set data.test=" in line


def test_a_warning_of_all_members_of_a_cohort_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    both = [Warned(run=run, step=0, message="at chance") for run in ("one", "two")]
    assert list(show([*both, Warned(run="one", step=3, message="at chance")], 3))[1] == both[1]
    assert capsys.readouterr().err.splitlines() == ["one  at chance"] * 2


def test_in_a_terminal_an_evaluation_is_a_row_of_the_runs_bars(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "BAR_AFTER_S", 0.0)
    console = progress.errors.__class__(stderr=True, force_terminal=True, width=100)
    monkeypatch.setattr(progress, "errors", console)

    def events():
        yield STARTED
        yield measuring("test", 5000)
        with phase("encoding test images", 5000) as one:
            one.advance(1200)
        yield EvalDone(run="one", step=3, split="test", num_pairs=5000, metrics={}, elapsed_s=1)
        yield RunFinished(run="one", step=3, state="finished", elapsed_s=1)

    list(show(events(), 3))
    said = capsys.readouterr().err
    assert "--no-test" in said
    with phase("encoding test images", 5000) as one:  # and no longer a row once the bars are gone
        one.advance()
        assert shown._reporter.host is None


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
