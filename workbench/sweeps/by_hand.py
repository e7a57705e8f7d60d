"""What a person adds to a study that has begun, for its workers to take up: values to try, or a cell once more."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench.config.cells import Cell, as_text, typed_values
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
    """Refuse values (``KEY=VALUE``) that a search would not try, and a cell that a grid does not have.

    Raises:
        ValueError: both are given, or one that is not for this kind of study; a setting that is not searched, a value
            outside, or no such cell.
    """
    if overrides and cell:
        raise ValueError("--try is for searches and --retry for grids: give one of the two")
    if overrides and not study.search:
        raise ValueError(
            f"study '{study.name}' has the cells of its file, and no others: --try is for searches. A study of yours "
            f'may extend it: extends = "{study.name}"'
        )
    if cell and study.search:
        raise ValueError("a search tries all again that failed with --resume, and any values with --try KEY=VALUE")
    typed_values(study, overrides)
    names = [one.name for one in cells]
    if cell and cell not in names:
        raise unknown("cell", cell, names)


def queue_values(sweep: "Sweep", overrides: Sequence[str]) -> str:
    """Have a search try these values before it asks its sampler again; returns what will be tried.

    It takes the place of one of the sampler's trials; a search that has had all of its own tries it all the same.

    Args:
        overrides: ``KEY=VALUE`` of settings that are searched; of the others the sampler chooses a value.

    Raises:
        ValueError: the study is no search, or has not begun; a setting that is not searched, or a value outside.
    """
    check_by_hand(sweep.study, sweep.cells, overrides, "")
    values = _values(sweep, overrides)
    with Leases(sweep.ledger.engine, sweep.request.grace_s) as leases, leases.alone(f"{sweep.ledger.name}/queue"):
        sweep.ledger.optuna.enqueue_trial(values, user_attrs={BY_HAND: True})
    return " ".join(f"{key}={as_text(value)}" for key, value in values.items())


def _values(sweep: "Sweep", overrides: Sequence[str]) -> dict[str, Any]:
    """The values of the settings that are searched, as Optuna holds them."""
    known = distributions(sweep.study)
    given = typed_values(sweep.study, overrides)
    return {key: known[key].to_external_repr(known[key].to_internal_repr(value)) for key, value in given.items()}


def queue_again(sweep: "Sweep", cell: str) -> str:
    """Have a grid try a cell's runs again that failed or were stopped, and nothing else; returns what will be tried.

    Raises:
        ValueError: the study is a search, or has not begun; no such cell, or nothing of it that could end otherwise.
    """
    check_by_hand(sweep.study, sweep.cells, (), cell)
    ledger = sweep.ledger
    with Leases(ledger.engine, sweep.request.grace_s) as leases, leases.alone(f"{ledger.name}/queue"):
        seeds = _to_retry(ledger.by_name().get(cell))
        if not seeds:
            raise ValueError(
                f"cell '{cell}' has no run that failed or was stopped: one that finished or diverged would end the "
                f"same way, and what is missing is trained by the sweep's own command"
            )
        ledger.queue(sweep.cells, sweep.request.seeds, retries=[cell])
    return f"{cell} at seed {', '.join(map(str, seeds))}"


def _to_retry(trial: Trial | None) -> list[int]:
    """The seeds that ended otherwise than they would again, once all have ended."""
    if trial is None or not trial.is_settled:
        return []
    return [seed for seed, outcome in trial.outcomes.items() if outcome.state not in END]
