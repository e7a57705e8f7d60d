"""The only finding of a check."""

from collections.abc import Callable, Sequence

import pytest

from workbench.engine.start_checks import Finding


@pytest.fixture
def one() -> Callable[..., Finding]:
    """``one(findings, check)``: the only finding of that check."""

    def only(findings: Sequence[Finding], check: str) -> Finding:
        (found,) = [finding for finding in findings if finding.check == check]
        return found

    return only
