"""Recording a training loop's events in the log and the summary; and the hash of the code."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from hashlib import sha256

from workbench.errors import print_error
from workbench.events import Event, RunFinished, RunResumed, Warned
from workbench.resources import PACKAGE
from workbench.runs.directory import RunDirectory
from workbench.runs.log import EventLog
from workbench.runs.summary import write_summary


@cache
def code_sha256() -> str:
    """Hex SHA-256 over the names and contents of the package's Python files; read once per process."""
    digest = sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def record(events: Iterable[Event], directories: Mapping[str, RunDirectory]) -> Iterator[Event]:
    """Yield every event after appending it to the log of its run, named by ``event.run``.

    A RunFinished also writes ``summary.json``, and a RunResumed removes it. A full or failing disk is reported once
    per run on stderr and does not stop training: lost events are counted, and a Warned event gives their number once
    the log can be written again.
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
    """The log of one run; tolerates disk errors."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self._log: EventLog | None = None
        self._num_lost = 0
        self._has_warned = False

    def write(self, event: Event) -> None:
        try:
            self._append(event)
        except OSError as error:
            self._num_lost += 1
            self._warn(error)
            return
        try:
            if isinstance(event, RunResumed):
                self.run.summary_file.unlink(missing_ok=True)
            if isinstance(event, RunFinished):
                write_summary(self.run)
        except OSError as error:
            self._warn(error)

    def _append(self, event: Event) -> None:
        if self._log is None:
            self._log = EventLog(self.run.events_file)
        if self._num_lost:
            lost = f"{self._num_lost} events are missing before this one: the log could not be written"
            self._log.append(Warned(run=event.run, step=event.step, message=lost))
            self._num_lost = 0
        self._log.append(event)

    def _warn(self, error: OSError) -> None:
        if not self._has_warned and self.run.path.exists():  # if the folder is gone, the run itself fails
            message = f"warning: {self.run.path}: {error.strerror or error}; training continues, its log has gaps"
            print_error(message)
        self._has_warned = True

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
