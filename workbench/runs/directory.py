"""Run directories: the paths in one, and creating, finding and listing runs."""

import contextlib
import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from shlex import quote

from workbench.errors import is_utf8, unknown, visible
from workbench.files import FULL, TEMPORARY, DiskFullError, new_folder, resolved
from workbench.process import is_writable

MAX_ID_LENGTH = 100


class _Entry:
    """The path of a file or folder in a run directory."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: "RunDirectory", _: type) -> Path:
        return run.path / self.name


@dataclass(frozen=True)
class RunDirectory:
    """``runs/<id>/``: the config, log, checkpoints and control files of one run."""

    path: Path

    config_file = _Entry("run.toml")  # the resolved config and the machine
    events_file = _Entry("events.jsonl")  # one event per line, see workbench/events.py
    checkpoints = _Entry("checkpoints")  # one folder per checkpoint
    snapshots = _Entry("snapshots")  # embeddings of the probe pairs, gradients and masks, by step
    suites = _Entry("suites")  # results of `evaluate --suite`, one file per evaluation
    control = _Entry("control")  # commands waiting to be read by the run
    summary_file = _Entry("summary.json")  # the results, written when the run ends
    output_file = _Entry("output.log")  # terminal output of a detached run
    lock_file = _Entry("lock")  # locked by the process that writes to the run
    owner_file = _Entry("owner.json")  # which process that is; left over only if it died

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def exists(self) -> bool:
        return self.config_file.exists() and self.events_file.exists()

    @property
    def identity(self) -> tuple[int, int] | None:
        """(device, inode) of the log, which changes if the folder is replaced; None if it is gone."""
        try:
            status = self.events_file.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_dev, status.st_ino


def create_run(
    runs_dir: Path, run_id: str, resolved_toml: str, begin: Callable[[RunDirectory], None] = lambda _: None
) -> RunDirectory:
    """Create ``runs_dir/run_id`` atomically; if two processes create the same id, exactly one succeeds.

    Args:
        begin: adds initial files before the directory becomes visible.

    Raises:
        ValueError: the id is taken or invalid, or ``runs_dir`` is a file, read-only or full.
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
    """Raise the errors of :func:`create_run` early, before minutes of other work. Writes nothing."""
    _check_id(run_id)
    final = RunDirectory(runs_dir.absolute() / run_id)
    if final.path.exists():
        raise _exists(final)
    if not is_writable(runs_dir):
        nearest = next(path for path in (runs_dir, *runs_dir.absolute().parents) if path.exists())
        number = errno.EACCES if nearest.is_dir() else errno.ENOTDIR
        raise ValueError(_why_not(OSError(number, os.strerror(number)), runs_dir, 0))


def _exists(run: RunDirectory) -> ValueError:
    return ValueError(
        f"run '{run.id}' already exists in {run.path.parent}: choose another --name, "
        f"or resume it if it has not finished: workbench runs resume {quote(str(run.path))}"
    )


def _why_not(error: OSError, runs_dir: Path, num_bytes: int) -> str:
    if error.errno in FULL:
        reason = str(error if isinstance(error, DiskFullError) else DiskFullError(runs_dir, num_bytes))
    elif error.errno in (errno.EEXIST, errno.ENOTDIR):
        reason = "it is a file, or inside one"
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
        ValueError: no such run (the message names the closest id), the folder cannot be read, or its name has control
            characters or is not UTF-8.
    """
    for path in (runs_dir / run_id_or_path, Path(run_id_or_path)):
        try:
            run = RunDirectory(resolved(path))
            if run.exists:
                break
        except OSError as error:
            raise _unreadable(path, error) from None
    else:
        raise _no_run(runs_dir, run_id_or_path)
    if not run.id.isprintable():
        has = "control characters" if is_utf8(run.id) else "bytes that are not UTF-8"
        raise ValueError(f"the folder '{visible(run.id)}' has {has} in its name: rename it")
    return run


def _no_run(runs_dir: Path, run_id_or_path: str | Path) -> ValueError:
    known = [run.id for run in list_runs(runs_dir)]
    if not known:
        return ValueError(f"no run '{run_id_or_path}': there are no runs in {runs_dir} yet; start one: workbench train")
    return unknown("run", str(run_id_or_path), known)


def list_runs(runs_dir: Path) -> list[RunDirectory]:
    """All runs in ``runs_dir``, newest first; empty if the folder does not exist."""
    try:
        if not runs_dir.is_dir():
            return []
        entries = list(runs_dir.absolute().iterdir())
    except OSError as error:
        raise _unreadable(runs_dir, error) from None
    runs = [RunDirectory(path) for path in entries if not path.name.startswith(TEMPORARY)]
    created = [(time_ns, run.id) for run in runs if (time_ns := _created_ns(run)) is not None]
    return [RunDirectory(runs_dir.absolute() / run_id) for _, run_id in sorted(created, reverse=True)]


def _created_ns(run: RunDirectory) -> int | None:
    """Creation time of the run, ns; None if there is none; 0 (oldest) if the folder cannot be read."""
    try:
        return run.config_file.stat().st_mtime_ns if run.exists else None
    except FileNotFoundError:  # removed since it was listed
        return None
    except OSError:
        return 0


def _unreadable(path: Path, error: OSError) -> ValueError:
    reason = (error.strerror or str(error)).lower()
    return ValueError(f"cannot look for runs in {path}: {reason}; choose another folder with --runs DIR")


def new_run_id(recipe: str, seed: int, runs_dir: Path) -> str:
    """A readable unused id: ``clip-kd-s0-1122-1405`` (recipe, seed, month and day, time of day).

    ``recipe`` may be a name or a file. Create each run before asking for the next id.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(recipe).name.removesuffix(".toml")).strip(".-") or "run"
    base = f"{stem[:60]}-s{seed}-{datetime.now():%m%d-%H%M}"
    candidate, count = base, 1
    with contextlib.suppress(OSError):  # create_run reports an unreadable folder
        while (runs_dir / candidate).exists():
            count += 1
            candidate = f"{base}-{count}"
    return candidate
