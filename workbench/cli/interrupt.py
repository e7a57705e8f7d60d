"""Ctrl-C, SIGTERM and SIGUSR1 (a cluster's last warning) ask a run to finish its step and save; a second ends it."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)  # Windows has no SIGUSR1


class Interrupt:
    """Which signal came, if one did; call it to ask."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self) -> bool:
        return self.number is not None

    @property
    def exit_code(self) -> int:
        """The shell's convention: 130 after Ctrl-C, 143 after SIGTERM, 138 after SIGUSR1, 0 after none."""
        return 0 if self.number is None else 128 + self.number


@contextmanager
def listening() -> Iterator[Interrupt]:
    """Turn the first signal into a request; the handlers are put back after."""
    interrupt = Interrupt()

    def handle(number: int, _: FrameType | None) -> None:
        if interrupt():
            raise KeyboardInterrupt
        interrupt.number = number
        print("\nfinishing this step and saving; once more to quit at once", file=sys.stderr)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
