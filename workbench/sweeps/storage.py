"""The database of a study: an SQLite file in the runs folder, or any database that Optuna supports, by URL."""

import gc
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from workbench.runs.studies import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.storages import RDBStorage

LOCK_TIMEOUT_S = 60.0
MAX_ATTEMPTS, RETRY_S = 40, 0.3
FULL = ("too many clients", "connection slots are reserved")  # PostgreSQL, when many workers start at one moment
CONTESTED = ("already exists", *FULL)
SERVERS = ("postgresql", "mysql", "mariadb")
POSTGRES = "psycopg"  # the driver installed by the [postgres] extra
# A worker keeps one connection, and opens a second one only while its heartbeat or Optuna's version check overlaps with
# another query: 64 workers stay below the 100 connections that PostgreSQL allows by default.
SERVER_POOL = {"pool_size": 1, "max_overflow": 1, "pool_pre_ping": True}


def default_file(runs_dir: Path, study: str) -> Path:
    """The SQLite file of a study without ``--storage``."""
    return runs_dir.absolute() / FOLDER / f"{study}.db"


def open_storage(url: str, file: Path | None = None) -> "RDBStorage":
    """Optuna's storage at ``url``, or in the SQLite ``file``, which is created if missing.

    Raises:
        ValueError: it cannot be used, with the cause and the remedy; existing data are left unchanged.
    """
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ValueError(f"cannot keep studies in {file.parent}: {reason}; choose another --runs DIR") from None
        url = f"sqlite:///{file}"
    kind = url.partition(":")[0].partition("+")[0]
    if url.startswith("postgresql://"):
        url = url.replace("postgresql", f"postgresql+{POSTGRES}", 1)  # SQLAlchemy before 2.1 defaults to psycopg2
    if kind == "sqlite":
        _check_sqlite(Path(url.partition(":///")[2]))
    elif kind not in SERVERS:
        raise ValueError(f"--storage {url}: name a database as sqlite:///FILE, {'://..., '.join(SERVERS)}://...")
    return _open(url, kind)


def _open(url: str, kind: str) -> "RDBStorage":
    import optuna
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = {"connect_args": {"timeout": LOCK_TIMEOUT_S}} if kind == "sqlite" else SERVER_POOL
    shown = url.rpartition("@")[2]  # without user and password
    try:
        return _retry_if_contested(lambda: RDBStorage(url, engine_kwargs=options))
    except ImportError as error:
        raise ValueError(f"--storage {kind}://...: {_what_to_install(error.__cause__ or error, kind)}") from None
    except ArgumentError as error:
        raise ValueError(f"--storage {shown}: {error}") from None
    except RuntimeError as error:  # raised by Optuna for another schema version
        raise ValueError(f"the database at {shown} has another schema version and was not changed: {error}") from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise ValueError(f"cannot use the database at {shown}: {_first_line(error)}") from None


def _retry_if_contested(make: "Callable[[], RDBStorage]") -> "RDBStorage":
    """Open the storage, retrying while other processes create its tables or use all connections of a server."""
    for _ in range(MAX_ATTEMPTS - 1):
        try:
            return make()
        except Exception as error:
            if not _is_contested(error):
                raise
            is_full = any(text in str(error) for text in FULL)
        if is_full:
            gc.collect()  # the engine that failed is in reference cycles, and keeps its connections until collected
        time.sleep(RETRY_S * random.uniform(0.5, 1.5))  # not in step with the others
    return make()


def _is_contested(error: Exception) -> bool:
    """Whether another process created the same table or row at the same time, or the server is full for a moment."""
    from sqlalchemy.exc import IntegrityError

    chain = (error, error.__cause__)
    return any(isinstance(one, IntegrityError) or any(text in str(one) for text in CONTESTED) for one in chain)


def _check_sqlite(file: Path) -> None:
    """Refuse a file that SQLite's quick_check finds damaged, before anything is written to it."""
    if not file.exists():
        return
    remedy = "move it away and repeat the command: finished runs are read from the runs folder"
    try:
        found = _quick_check(file)
    except sqlite3.Error as error:
        raise ValueError(f"{file} cannot be read as a database ({error}): {remedy}") from None
    if found != "ok":
        raise ValueError(f"{file} is damaged ({found}): {remedy}")


def _quick_check(file: Path, mode: str = "ro") -> str:
    """Result of SQLite's quick_check: "ok", or the first problem."""
    try:
        with closing(
            sqlite3.connect(f"file:{quote(str(file))}?mode={mode}", uri=True, timeout=LOCK_TIMEOUT_S)
        ) as opened:
            return str(opened.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        if mode == "ro" and error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
            return _quick_check(file, "rw")  # a writer was killed in a transaction; reading needs a rollback first
        raise


def _what_to_install(error: BaseException, kind: str) -> str:
    driver = getattr(error, "name", None) or str(error)
    if driver == POSTGRES:
        return "its driver is not installed: pip install 'clip-distillation-workbench[postgres]'"
    return f"its driver {driver} is not installed: install it, or name another one as {kind}+DRIVER://..."


def _first_line(error: Exception) -> str:
    cause = error.__cause__ or error
    lines = str(getattr(cause, "orig", None) or cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__
