"""Recording a training loop's events: the log, the summary, and the code version."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from hashlib import sha256

from workbench.events import Event, RunFinished, RunResumed, Warned
from workbench.resources import PACKAGE
from workbench.runs.directory import RunDirectory
from workbench.runs.log import EventLog
from workbench.runs.summary import write_summary
from workbench.terminal import print_error

# Which code made a run.


@cache
def code_sha256() -> str:
    """SHA-256, hex, over the names and contents of the package's own Python files, as this process found them."""
    digest = sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


# Writes a training loop's events down as they pass, and sums each run up when it ends.


def record(events: Iterable[Event], directories: Mapping[str, RunDirectory]) -> Iterator[Event]:
    """Passes every event on once it stands in the log of its run, named by ``event.run``.

    A RunFinished also leaves ``summary.json``, and a RunResumed removes it. A disk that is full or failing is
    reported once a run on stderr and never stops the training: events that could not be written are counted,
    and the log says how many when it can be written again.
    """
    recorders: dict[str, _Recorder] = {}
    try:
        for event in events:
            if event.run not in recorders:
                recorders[event.run] = _Recorder(directories[event.run])
            recorders[event.run].write(event)
            yield event
    finally:
        for recorder in recorders.values():
            recorder.close()


class _Recorder:
    """The log of one run, which survives a disk that does not."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self._log: EventLog | None = None
        self._num_lost = 0
        self._has_complained = False

    def write(self, event: Event) -> None:
        try:
            self._append(event)
        except OSError as error:
            self._num_lost += 1
            self._complain(error)
            return
        try:
            if isinstance(event, RunResumed):
                self.run.summary_file.unlink(missing_ok=True)
            if isinstance(event, RunFinished):
                write_summary(self.run)
        except OSError as error:
            self._complain(error)

    def _append(self, event: Event) -> None:
        if self._log is None:
            self._log = EventLog(self.run.events_file)
        if self._num_lost:
            lost = f"{self._num_lost} events are missing before this one: the log could not be written"
            self._log.append(Warned(run=event.run, step=event.step, message=lost))
            self._num_lost = 0
        self._log.append(event)

    def _complain(self, error: OSError) -> None:
        if not self._has_complained and self.run.path.exists():  # else the run fails, and says why
            message = f"warning: {self.run.path}: {error.strerror or error}; the run goes on, its log has gaps"
            print_error(message)
        self._has_complained = True

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
