import pytest

from workbench.engine.spikes import Spikes
from workbench.events import StepDone, Warned


@pytest.fixture
def step():
    fields = {
        "run": "run",
        "step": 1,
        "scales": {},
        "learning_rate": 0.1,
        "grad_norm": 1.0,
        "step_time_s": 0.1,
        "pairs_per_s": 10.0,
        "elapsed_s": 1.0,
        "peak_mb": 1.0,
    }

    def make(*losses: float) -> StepDone:
        terms = dict(zip(("clip", "fd"), losses, strict=False))
        return StepDone(**fields, loss=sum(losses), terms=terms, weighted=terms)

    return make


def test_a_leap_is_told_once_until_it_is_over(step) -> None:
    spikes = Spikes()
    losses = [(2.0, 0.1)] * 6 + [(2.0, 30.0)] * 3 + [(2.0, 0.1), (30.0, 0.1)]
    news = [spikes.news(step(*loss)) for loss in losses]
    assert [number for number, line in enumerate(news) if line] == [6, 10]
    assert news[6] == "the loss leapt to 32 from about 2.1, most of it fd; the training goes on"
    assert "most of it clip" in news[10]


def test_a_start_a_slow_rise_and_a_loss_of_zero_are_no_leaps(step) -> None:
    for losses in ([100.0, 1.0, 50.0], [1.5**count for count in range(30)], [0.0] * 20 + [1.0], [-1.0] * 20 + [5.0]):
        spikes = Spikes()
        assert not any(spikes.news(step(loss)) for loss in losses)


def test_a_term_that_comes_on_is_no_leap(step) -> None:
    spikes = Spikes()
    for _ in range(10):
        assert not spikes.news(step(1.0))
    assert not any(spikes.news(step(1.0, 100.0)) for _ in range(10))


def test_a_run_whose_loss_leaps_goes_on(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.engine.build import build_cohort
    from workbench.engine.loop import train
    from workbench.losses.crd import CrdLoss

    honest, calls = CrdLoss.__call__, []

    def leaping(self, comparison):
        calls.append(1)
        return honest(self, comparison) * (1e4 if len(calls) == 9 else 1)

    monkeypatch.setattr("workbench.engine.loop.new_remarks", lambda *_: [])  # which computes every loss once more
    monkeypatch.setattr(CrdLoss, "__call__", leaping)
    events = list(train(build_cohort({"run": tiny(log={"every_steps": 1})})))
    (warned,) = [event for event in events if isinstance(event, Warned) and "leapt" in event.message]
    assert warned.step == 9
    assert events[-1].state == "finished"
