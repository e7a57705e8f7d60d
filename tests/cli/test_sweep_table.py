"""A study's table, also where runs of its baseline have failed."""

from types import SimpleNamespace

import pytest

from workbench.cli.sweep_table import print_results
from workbench.sweeps.ledger import Trial
from workbench.sweeps.outcome import Outcome
from workbench.sweeps.results import cell_results


def trial(number: int, name: str, outcomes: dict[int, Outcome]) -> Trial:
    return Trial(number, name, {}, (0, 1), outcomes, True, "COMPLETE", None)


def outcome(run: str, state: str, recall: float | None = None) -> Outcome:
    metrics = {} if recall is None else {"image_to_text_r1": recall}
    reason = "" if recall is not None else "disk full at runs: needs about 3.0 MB, has 0.1 MB"
    return Outcome(run=run, host="here", state=state, reason=reason, metrics=metrics)


@pytest.mark.parametrize("columns", ["200", "30"])
def test_a_baseline_that_failed_leaves_a_table_without_differences(capsys, monkeypatch, columns) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    trials = [
        trial(0, "0", {seed: outcome(f"zero-{seed}", "failed") for seed in (0, 1)}),
        trial(1, "5", {seed: outcome(f"five-{seed}", "finished", 0.25 + seed / 4) for seed in (0, 1)}),
    ]
    study = SimpleNamespace(search=None, baseline="0", objectives=[SimpleNamespace(metric="image_to_text_r1")])
    results = cell_results(trials, "0")
    assert not any(result.gains for result in results)
    print_results(SimpleNamespace(results=lambda: results, study=study, begun_confirmation=None))
    out = capsys.readouterr().out
    assert "difference " not in out
    assert "37.5" in out
    assert "0: failed: disk full at runs" in out
