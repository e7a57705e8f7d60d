"""Going on when the study's database cannot be reached for a while."""

import time
from collections.abc import Callable

from workbench.sweeps.replicate import Stop

MOST_TRIES = 8
FIRST_WAIT_S = 1.0


def keep_going(step: Callable[[], bool], stop: Stop, say: Callable[[str], None]) -> None:
    """Take steps until one says that there is no more to do, or until asked to stop.

    A step that the database refuses is taken again, after one second, two, four and so on for some two minutes: leases
    are still ours when it comes back, and what was trained is on disk.

    Raises:
        ValueError: it does not come back.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import DBAPIError

    failed = 0
    while not stop():
        try:
            goes_on = step()
        except (DBAPIError, StorageInternalError) as error:
            cause = error.__cause__ or error
            reason = str(getattr(cause, "orig", cause)).strip().splitlines()[0]
            failed += 1
            if failed == MOST_TRIES:
                raise ValueError(
                    f"the study's database does not answer ({reason}): what was trained is kept, and the same command "
                    "goes on once it does"
                ) from None
            wait_s = FIRST_WAIT_S * 2 ** (failed - 1)
            say(f"the study's database does not answer ({reason}): trying again in {wait_s:.0f} s")
            time.sleep(wait_s)
            continue
        failed = 0
        if not goes_on:
            return
