"""A run is a directory: its files by name, and creating, finding and listing runs."""

import contextlib
import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from shlex import quote

from workbench.errors import unknown
from workbench.files import FULL, TEMPORARY, DiskFullError, new_folder
from workbench.limits import is_writable
from workbench.terminal import visible

MAX_ID_LENGTH = 100


@dataclass(frozen=True)
class RunDirectory:
    """``runs/<id>/``: everything a run was told, said and saved."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def config_file(self) -> Path:
        """The resolved config and the machine."""
        return self.path / "run.toml"

    @property
    def events_file(self) -> Path:
        """One event a line; see workbench/events.py."""
        return self.path / "events.jsonl"

    @property
    def checkpoints(self) -> Path:
        """One folder a checkpoint."""
        return self.path / "checkpoints"

    @property
    def snapshots(self) -> Path:
        """The probe batch's embeddings and other tensors to look at, by step."""
        return self.path / "snapshots"

    @property
    def control(self) -> Path:
        """Commands waiting to be taken."""
        return self.path / "control"

    @property
    def summary_file(self) -> Path:
        """What came out, written when the run ends."""
        return self.path / "summary.json"

    @property
    def output_file(self) -> Path:
        """What a detached run prints."""
        return self.path / "output.log"

    @property
    def lock_file(self) -> Path:
        """Locked by the one process that writes here."""
        return self.path / "lock"

    @property
    def owner_file(self) -> Path:
        """Which process that is; left behind only by one that died."""
        return self.path / "owner.json"

    @property
    def exists(self) -> bool:
        return self.config_file.is_file() and self.events_file.exists()

    @property
    def identity(self) -> tuple[int, int] | None:
        """Which log lies here, by device and inode: another one, or None, once the folder was deleted or moved."""
        try:
            found = self.events_file.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_dev, found.st_ino


def create_run(
    runs_dir: Path, run_id: str, resolved_toml: str, begin: Callable[[RunDirectory], None] = lambda _: None
) -> RunDirectory:
    """Makes ``runs_dir/run_id`` whole or not at all; of two processes creating one id exactly one succeeds.

    Args:
        begin: puts in what more a run begins with, before anyone sees it.

    Raises:
        ValueError: the id is taken or ill-formed, or ``runs_dir`` is a file, read-only or full.
    """
    _check_id(run_id)
    final = RunDirectory(runs_dir.absolute() / run_id)
    try:
        with new_folder(final.path) as folder:
            building = RunDirectory(folder)
            for part in (building.checkpoints, building.snapshots, building.control):
                part.mkdir()
            building.config_file.write_text(resolved_toml, encoding="utf-8")
            building.events_file.touch()
            begin(building)
    except OSError as error:
        if isinstance(error, FileExistsError) and final.path.exists():
            raise _exists(final) from None
        raise ValueError(_why_not(error, runs_dir, len(resolved_toml))) from None
    return final


def check_can_create(runs_dir: Path, run_id: str) -> None:
    """Refuses at once what :func:`create_run` would refuse after minutes of other work. Nothing is written.

    Raises:
        ValueError: as :func:`create_run`.
    """
    _check_id(run_id)
    final = RunDirectory(runs_dir.absolute() / run_id)
    if final.path.exists():
        raise _exists(final)
    if not is_writable(runs_dir):
        there = next(path for path in (runs_dir, *runs_dir.absolute().parents) if path.exists())
        number = errno.EACCES if there.is_dir() else errno.ENOTDIR
        raise ValueError(_why_not(OSError(number, os.strerror(number)), runs_dir, 0))


def _exists(run: RunDirectory) -> ValueError:
    return ValueError(
        f"run '{run.id}' already exists in {run.path.parent}: choose another --name, "
        f"or go on with it if it has not finished: workbench runs resume {quote(str(run.path))}"
    )


def _why_not(error: OSError, runs_dir: Path, num_bytes: int) -> str:
    if error.errno in FULL:
        reason = str(error if isinstance(error, DiskFullError) else DiskFullError(runs_dir, num_bytes))
    elif error.errno in (errno.EEXIST, errno.ENOTDIR):
        reason = "it is, or lies under, a file"
    else:
        reason = (error.strerror or str(error)).lower()
    return f"cannot create a run in {runs_dir}: {reason}; choose another folder with --runs DIR"


def _check_id(run_id: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", run_id) or len(run_id) > MAX_ID_LENGTH:
        suggestion = re.sub(r"[^A-Za-z0-9._-]+", "-", run_id).lstrip(".-")[:MAX_ID_LENGTH] or "my-run"
        raise ValueError(
            f"run name {run_id!r}: use letters, digits, '.', '_' and '-', at most {MAX_ID_LENGTH}, "
            f"the first a letter or digit, such as '{suggestion}'"
        )


def find_run(runs_dir: Path, run_id_or_path: str | Path) -> RunDirectory:
    """The run with this id in ``runs_dir``, or at this path.

    Raises:
        ValueError: there is none, and the nearest id is named; the folder may not be read, or its name would steer a
            terminal.
    """
    for path in (runs_dir / run_id_or_path, Path(run_id_or_path)):
        try:
            run = RunDirectory(path.resolve())
            if run.exists:
                break
        except OSError as error:
            raise _unreadable(path, error) from None
    else:
        raise _no_run(runs_dir, run_id_or_path)
    if not run.id.isprintable():
        raise ValueError(f"the folder '{visible(run.id)}' has control characters in its name: rename it")
    return run


def _no_run(runs_dir: Path, run_id_or_path: str | Path) -> ValueError:
    known = [run.id for run in list_runs(runs_dir)]
    if not known:
        return ValueError(f"no run '{run_id_or_path}': {runs_dir} holds no runs yet; start one: workbench train")
    return unknown("run", str(run_id_or_path), known)


def list_runs(runs_dir: Path) -> list[RunDirectory]:
    """Every run in ``runs_dir``, the newest first; none where the folder is missing.

    Raises:
        ValueError: it may not be read.
    """
    try:
        if not runs_dir.is_dir():
            return []
        entries = list(runs_dir.absolute().iterdir())
    except OSError as error:
        raise _unreadable(runs_dir, error) from None
    found = [RunDirectory(path) for path in entries if not path.name.startswith(TEMPORARY)]
    created = [(time_ns, run.id) for run in found if (time_ns := _created_ns(run)) is not None]
    return [RunDirectory(runs_dir.absolute() / run_id) for _, run_id in sorted(created, reverse=True)]


def _created_ns(run: RunDirectory) -> int | None:
    """When the run was created; None where there is none. One that may not be looked into is listed, as the oldest."""
    try:
        return run.config_file.stat().st_mtime_ns if run.exists else None
    except FileNotFoundError:  # it has just been removed
        return None
    except OSError:
        return 0


def _unreadable(path: Path, error: OSError) -> ValueError:
    reason = (error.strerror or str(error)).lower()
    return ValueError(f"cannot look for runs in {path}: {reason}; choose another folder with --runs DIR")


def new_run_id(recipe: str, seed: int, runs_dir: Path) -> str:
    """A readable id that is free now: ``clip-kd-s0-1122-1405`` (recipe, seed, month and day, time of day).

    ``recipe`` may be a name or a file. Create each run before asking for the next id.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(recipe).name.removesuffix(".toml")).strip(".-") or "run"
    base = f"{stem[:60]}-s{seed}-{datetime.now():%m%d-%H%M}"
    candidate, count = base, 1
    with contextlib.suppress(OSError):  # a folder that may not be read is named by create_run
        while (runs_dir / candidate).exists():
            count += 1
            candidate = f"{base}-{count}"
    return candidate
