"""trackio: a run in a local database."""

import io
import os
import shlex
import warnings
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stdout, suppress
from pathlib import Path

from workbench.adapters.sink import PROJECT, Sink, settings
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import State


class TrackioSink(Sink):
    """Writes ``folder/trackio/``, one database for all runs; an earlier copy of this run is deleted.

    trackio records the time of export, not of the step. $TRACKIO_SPACE_ID and $TRACKIO_SERVER_URL send it elsewhere.
    """

    tool = "trackio"

    def __init__(self, run: RunDirectory, folder: Path) -> None:
        super().__init__(run, folder)
        os.environ["TRACKIO_DIR"] = str(self.folder)  # read when trackio is imported
        import trackio

        self._trackio = trackio
        self._caught = ExitStack()
        self._warnings = self._caught.enter_context(warnings.catch_warnings(record=True))
        with suppress(ValueError):  # the project does not exist yet
            for earlier in trackio.Api().runs(PROJECT):
                if earlier.name == run.id:
                    earlier.delete()
        with redirect_stdout(io.StringIO()):  # init prints a greeting
            quiet = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
            trackio.init(PROJECT, name=run.id, config=settings(run), **quiet)

    @property
    def next(self) -> str:
        return f"see it with: TRACKIO_DIR={shlex.quote(str(self.folder))} trackio show --project {PROJECT}"

    def write(self, step: int, time_s: float, values: Mapping[str, float]) -> None:  # noqa: ARG002  # see the class
        self._trackio.log(dict(values), step=step)

    def close(self, state: State) -> None:  # noqa: ARG002  # trackio keeps no outcome
        with self._caught, redirect_stdout(io.StringIO()):
            self._trackio.finish()
        # trackio does not raise: it drops what it cannot write, and warns.
        for warning in self._warnings:
            if warning.category is UserWarning:
                raise RuntimeError(str(warning.message))
