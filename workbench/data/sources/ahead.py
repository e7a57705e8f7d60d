"""Copying remote shards ahead of their reading, in threads that end with the program."""

import threading
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from workbench.data.sources.remote import ensure_copied

NUM_THREADS = 4


class CopyingAhead:
    """Threads that copy announced shards, started by the first."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[Path] = SimpleQueue()
        self._is_started = False

    def announce(self, path: Path) -> None:
        """Copies a shard soon. Does not wait, and raises nothing: whoever reads the shard meets the error."""
        if not self._is_started:
            self._is_started = True
            for _ in range(NUM_THREADS):
                # Daemons: a copy in the making must not keep the program from ending; its part is continued later.
                threading.Thread(target=self._copy, name="copy-ahead", daemon=True).start()
        self._waiting.put(path)

    def _copy(self) -> None:
        while True:
            with suppress(ValueError, OSError):
                ensure_copied(self._waiting.get())


COPYING_AHEAD = CopyingAhead()
