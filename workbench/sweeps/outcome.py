"""The outcome of one run of a study, small enough to be copied to the database."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from workbench.events import DENSE, EvalDone, RunStarted
from workbench.process import this_host
from workbench.runs.directory import RunDirectory
from workbench.runs.log import first_events, read_events
from workbench.runs.summary import summary_or_reason

END = ("finished", "diverged")  # states that training again would reproduce


class Outcome(BaseModel):
    """Result of an ended run. ``metrics`` are of the validation pairs, which a search optimizes.

    ``errors`` are standard errors over the pairs; ``num_items`` is the number of pairs behind the shown metrics.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")

    run: str
    host: str
    state: Literal["finished", "diverged", "failed", "stopped"]
    reason: str = ""
    step: int = 0
    metrics: dict[str, float] = {}
    errors: dict[str, float] = {}
    test_metrics: dict[str, float] = {}
    test_errors: dict[str, float] = {}
    num_items: int = 0
    num_params: int = 0
    elapsed_s: float = 0.0
    weights_sha256: str = ""

    def value(self, name: str) -> float | None:
        """An objective's value on the validation pairs, or a property of the run; None if not measured."""
        return self._own.get(name, self.metrics.get(name))

    def shown_value(self, name: str) -> float | None:
        """An objective's reported value: of the shown metrics, or a property of the run."""
        return self._own.get(name, self.shown.get(name))

    @property
    def _own(self) -> dict[str, float]:
        return {"num_params": float(self.num_params), "elapsed_s": self.elapsed_s}

    @property
    def shown(self) -> dict[str, float]:
        """The metrics to report: of the test pairs, which selected nothing, else of the validation pairs."""
        return self.test_metrics or self.metrics

    @property
    def shown_errors(self) -> dict[str, float]:
        """Standard errors of the shown metrics that have one."""
        return self.test_errors if self.test_metrics else self.errors


def outcome_of(run: RunDirectory) -> Outcome | None:
    """The outcome of the run; None if it can be resumed or started (interrupted, dead, new).

    A run with an unreadable log has failed, with the reason.
    """
    summary = summary_or_reason(run, from_log=True)
    if summary.state == "unreadable":
        return Outcome(run=run.id, host=this_host(), state="failed", reason=summary.reason)
    if summary.state not in ("finished", "diverged", "failed", "stopped"):
        return None
    started = [event for event in first_events(run.events_file) if isinstance(event, RunStarted)]
    events = read_events(run.events_file, (EvalDone,)).events
    num_pairs = [event.num_pairs for event in events if isinstance(event, EvalDone) and event.split != DENSE]
    return Outcome(
        run=run.id,
        host=this_host(),
        state=summary.state,
        reason=summary.reason,
        step=summary.step,
        metrics=summary.metrics,
        errors=summary.errors,
        test_metrics=summary.test_metrics,
        test_errors=summary.test_errors,
        num_items=num_pairs[-1] if num_pairs else 0,  # the test split is evaluated last
        num_params=started[0].num_parameters if started else 0,
        elapsed_s=summary.elapsed_s,
        weights_sha256=summary.weights_sha256,
    )
