"""Weights & Biases: an offline run on this disk, which can be uploaded later."""

import errno
import glob
import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

import wandb

from workbench.adapters.sink import PROJECT, Sink, settings
from workbench.files import remove
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import State

FULL_BYTES = 2**16
FAILED = ("diverged", "failed", "dead")


class WandbSink(Sink):
    """Writes ``folder/wandb/offline-run-<time>-<id>/``. $WANDB_MODE=online uploads at once; $WANDB_PROJECT is used.

    The id is the run's, so a second upload replaces the first.
    """

    tool = "wandb"

    def __init__(self, run: RunDirectory, folder: Path) -> None:
        super().__init__(run, folder)
        for earlier in self.folder.glob(f"offline-run-????????_??????-{glob.escape(run.id)}"):
            remove(earlier)
        if not os.access(self.folder, os.W_OK):  # wandb would silently write to a temporary folder
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.folder))
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run.id,
            name=run.id,
            config=settings(run),
            dir=self.folder.parent,
            mode="online" if os.environ.get("WANDB_MODE") == "online" else "offline",
            settings=wandb.Settings(
                silent=True,
                console="off",
                # The export process need not run on the machine, or with the code, of the training.
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                x_disable_meta=True,
                x_save_requirements=False,
            ),
        )
        self._files = Path(self._run.dir).parent

    @property
    def next(self) -> str:
        if self._run.offline:
            return f"upload it with: wandb sync {shlex.quote(str(self._files))}"
        return f"see it at: {self._run.url}"

    def write(self, step: int, time_s: float, values: Mapping[str, float]) -> None:
        self._run.log({**values, "_timestamp": time_s}, step=step)

    def close(self, state: State) -> None:
        self._run.finish(exit_code=1 if state in FAILED else 0)
        if shutil.disk_usage(self._files).free < FULL_BYTES:  # wandb does not report a full disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._files))
