"""Weights & Biases: an offline run on this disk, to upload or not."""

import errno
import glob
import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

import wandb

from workbench.adapters.sink import PROJECT, settings
from workbench.files import remove
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import State

FULL_BYTES = 2**16
FAILED = ("diverged", "failed", "dead")


class WandbSink:
    """``folder/wandb/offline-run-<time>-<id>/``. $WANDB_MODE=online sends it at once; $WANDB_PROJECT names its project.

    The id is the run's own, so that what is uploaded again replaces what was there.
    """

    def __init__(self, run: RunDirectory, folder: Path) -> None:
        folder = folder.absolute()
        for earlier in (folder / "wandb").glob(f"offline-run-????????_??????-{glob.escape(run.id)}"):
            remove(earlier)
        (folder / "wandb").mkdir(parents=True, exist_ok=True)
        if not os.access(folder / "wandb", os.W_OK):  # it would go elsewhere
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder / "wandb"))
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run.id,
            name=run.id,
            config=settings(run),
            dir=folder,
            mode="online" if os.environ.get("WANDB_MODE") == "online" else "offline",
            settings=wandb.Settings(
                silent=True,
                console="off",
                # The run's own machine, code and packages are not this process's.
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                x_disable_meta=True,
                x_save_requirements=False,
            ),
        )
        self._folder = Path(self._run.dir).parent

    @property
    def next(self) -> str:
        if self._run.offline:
            return f"upload it with: wandb sync {shlex.quote(str(self._folder))}"
        return f"see it at: {self._run.url}"

    def write(self, step: int, time_s: float, values: Mapping[str, float]) -> None:
        self._run.log({**values, "_timestamp": time_s}, step=step)

    def flush(self) -> None:
        """It sees to that itself."""

    def close(self, state: State) -> None:
        self._run.finish(exit_code=1 if state in FAILED else 0)
        if shutil.disk_usage(self._folder).free < FULL_BYTES:  # it does not say when the disk is full
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))
