"""The database that schedules a study: a file in the runs folder, or any that Optuna can reach by URL."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from workbench.runs.summary import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.storages import RDBStorage

LOCK_TIMEOUT_S = 60.0
MOST_OPENINGS, BETWEEN_OPENINGS_S = 10, 0.3
SERVERS = ("postgresql", "mysql", "mariadb")
POSTGRES = "psycopg"  # the driver that the extra brings


def default_file(runs_dir: Path, study: str) -> Path:
    """Where a study's database is if no storage is named."""
    return runs_dir.absolute() / FOLDER / f"{study}.db"


def open_storage(url: str, file: Path | None = None) -> "RDBStorage":
    """Optuna's storage at ``url``, or in the SQLite ``file``, which is made if it is not there.

    Raises:
        ValueError: it cannot be used, with the cause and what to do; whatever is there is left as it was.
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
        url = url.replace("postgresql", f"postgresql+{POSTGRES}", 1)  # SQLAlchemy before 2.1 meant an older driver
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
    options = {"connect_args": {"timeout": LOCK_TIMEOUT_S}} if kind == "sqlite" else {"pool_pre_ping": True}
    shown = url.rpartition("@")[2]  # without a password
    try:
        return _made_or_found(lambda: RDBStorage(url, engine_kwargs=options))
    except ImportError as error:
        raise ValueError(f"--storage {kind}://...: {_what_to_install(error.__cause__ or error, kind)}") from None
    except ArgumentError as error:
        raise ValueError(f"--storage {shown}: {error}") from None
    except RuntimeError as error:  # Optuna's word for a database of another version
        raise ValueError(f"the database at {shown} is of another version, and was left as it is: {error}") from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise ValueError(f"cannot use the database at {shown}: {_first_line(error)}") from None


def _made_or_found(make: "Callable[[], RDBStorage]") -> "RDBStorage":
    """The storage, opened again where another command was making its tables at the same moment."""
    for _ in range(MOST_OPENINGS - 1):
        try:
            return make()
        except Exception as error:
            if not _is_contested(error):
                raise
            time.sleep(BETWEEN_OPENINGS_S)
    return make()


def _is_contested(error: Exception) -> bool:
    """Whether a table, or a row of Optuna's own, was there already when it was to be made."""
    from sqlalchemy.exc import IntegrityError

    chain = (error, error.__cause__)
    return any(isinstance(one, IntegrityError) or "already exists" in str(one) for one in chain)


def _check_sqlite(file: Path) -> None:
    """Refuse a file that SQLite finds damaged, before anything could be written to it."""
    if not file.exists():
        return
    remedy = "move it aside and give the same command: finished runs are taken up from the runs folder"
    try:
        found = _quick_check(file)
    except sqlite3.Error as error:
        raise ValueError(f"{file} cannot be read as a database ({error}): {remedy}") from None
    if found != "ok":
        raise ValueError(f"{file} is damaged ({found}): {remedy}")


def _quick_check(file: Path, mode: str = "ro") -> str:
    """What SQLite says of the file: "ok", or what it finds first."""
    try:
        with closing(
            sqlite3.connect(f"file:{quote(str(file))}?mode={mode}", uri=True, timeout=LOCK_TIMEOUT_S)
        ) as opened:
            return str(opened.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        if mode == "ro" and error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
            return _quick_check(file, "rw")  # its writer was killed amid a change, which has to be undone to be read
        raise


def _what_to_install(error: BaseException, kind: str) -> str:
    driver = getattr(error, "name", None) or str(error)
    if driver == POSTGRES:
        return "its driver is not installed: pip install 'clip-distillation-workbench[postgres]'"
    return f"its driver {driver} is not installed: do that, or name another as {kind}+DRIVER://..."


def _first_line(error: Exception) -> str:
    cause = error.__cause__ or error
    lines = str(getattr(cause, "orig", None) or cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__
