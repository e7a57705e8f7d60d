"""Manual additions to a running study: values to try (``--try``), or a cell to retry (``--retry``)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench.config.cells import Cell, as_text, parse_values
from workbench.config.study import Study
from workbench.errors import unknown
from workbench.sweeps.leases import Leases
from workbench.sweeps.ledger import Trial
from workbench.sweeps.outcome import END
from workbench.sweeps.space import distributions

if TYPE_CHECKING:
    from workbench.sweeps.sweep import Sweep

BY_HAND = "by hand"


def check_by_hand(study: Study, cells: Sequence[Cell], overrides: Sequence[str], cell: str) -> None:
    """Check values (``KEY=VALUE``) for a search, or a cell of a grid.

    Raises:
        ValueError: both are given, or one that does not apply to this kind of study; a setting that is not searched, a
            value outside the search space, or no such cell.
    """
    if overrides and cell:
        raise ValueError("--try is for searches and --retry for grids: use one of the two")
    if overrides and not study.search:
        raise ValueError(
            f"study '{study.name}' is a fixed list of cells; --try is for searches. To add cells, write a study that "
            f'extends it: extends = "{study.name}"'
        )
    if cell and study.search:
        raise ValueError("--retry is for grids: a search retries failed trials with --resume, or use --try KEY=VALUE")
    parse_values(study, overrides)
    names = [one.name for one in cells]
    if cell and cell not in names:
        raise unknown("cell", cell, names)


def queue_values(sweep: "Sweep", overrides: Sequence[str]) -> str:
    """Queue values for a search, before its next sampled trial; returns them as text.

    The trial replaces a sampled one; a search whose trials are done runs it in addition.

    Args:
        overrides: ``KEY=VALUE`` of searched settings; the sampler chooses the others.

    Raises:
        ValueError: the study is not a search or has not started; a setting that is not searched, or a value outside the
            search space.
    """
    check_by_hand(sweep.study, sweep.cells, overrides, "")
    values = _values(sweep, overrides)
    with Leases(sweep.ledger.engine, sweep.request.grace_s) as leases, leases.alone(sweep.ledger.queue_key):
        sweep.ledger.optuna.enqueue_trial(values, user_attrs={BY_HAND: True})
    return " ".join(f"{key}={as_text(value)}" for key, value in values.items())


def _values(sweep: "Sweep", overrides: Sequence[str]) -> dict[str, Any]:
    """Values by setting, in Optuna's external representation."""
    known = distributions(sweep.study)
    given = parse_values(sweep.study, overrides)
    return {key: known[key].to_external_repr(known[key].to_internal_repr(value)) for key, value in given.items()}


def queue_again(sweep: "Sweep", cell: str) -> str:
    """Queue the failed and stopped runs of one cell of a grid; returns them as text.

    Raises:
        ValueError: the study is a search or has not started; no such cell, or none of its runs failed or was stopped.
    """
    check_by_hand(sweep.study, sweep.cells, (), cell)
    ledger = sweep.ledger
    with Leases(ledger.engine, sweep.request.grace_s) as leases, leases.alone(ledger.queue_key):
        seeds = _to_retry(ledger.by_name().get(cell))
        if not seeds:
            raise ValueError(
                f"cell '{cell}' has no failed or stopped run: finished and diverged runs would end the same way, and "
                f"missing ones are trained by workbench sweep"
            )
        ledger.queue(sweep.cells, sweep.request.seeds, retries=[cell])
    return f"{cell} at seed {', '.join(map(str, seeds))}"


def _to_retry(trial: Trial | None) -> list[int]:
    """Seeds of failed and stopped runs, once all seeds have ended."""
    if trial is None or not trial.is_settled:
        return []
    return [seed for seed, outcome in trial.outcomes.items() if outcome.state not in END]
