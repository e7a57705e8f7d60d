"""Ctrl-C, SIGTERM, SIGHUP (a terminal that closes) and SIGUSR1 (a cluster's last warning) end a run, resumable.

The run finishes its step and saves; a second signal ends it at once, unless that is SIGHUP: shells and kernels send it
twice, and after SIGTERM.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO, TypeVar, cast

T = TypeVar("T")
HANGUP = getattr(signal, "SIGHUP", None)  # Windows has neither this nor SIGUSR1
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
GONE = (errno.EIO, errno.EPIPE)  # a terminal that has closed, and a pipe whose reader has ended


class Interrupt:
    """Which signal came, if one did; call it to ask."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self) -> bool:
        return self.number is not None

    @property
    def exit_code(self) -> int:
        """The shell's convention: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP, 138 after SIGUSR1; else 0."""
        return 0 if self.number is None else 128 + self.number


@contextmanager
def listening() -> Iterator[Interrupt]:
    """Turn the first signal into a request; the handlers are put back after.

    SIGHUP stays ignored where it was, as under ``nohup``. What is printed once nothing reads it is dropped: a run must
    not die of that while it saves.
    """
    interrupt = Interrupt()

    def handle(number: int, _: FrameType | None) -> None:
        if interrupt():
            if number == HANGUP:
                return
            raise KeyboardInterrupt
        interrupt.number = number
        print("\nfinishing this step and saving; once more to quit at once", file=sys.stderr)

    heard = [one for one in SIGNALS if one != HANGUP or signal.getsignal(one) != signal.SIG_IGN]
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Lasting(stream)) for stream in streams)
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if interrupt.number is None or interrupt.number != HANGUP:  # else the summary has no terminal either
            sys.stdout, sys.stderr = streams


class _Lasting:
    """A stream that drops what is written once its terminal or its reader is gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._tried(lambda: self._stream.write(text))

    def flush(self) -> None:
        self._tried(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _tried(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except OSError as error:
            if error.errno not in GONE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            return act()
