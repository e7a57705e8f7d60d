"""Leases that assign trials to workers across processes and machines, in a table of the study's database.

Optuna's trial states are not enough: two processes that read WAITING at the same time may both proceed (SQLite does not
lock rows on read), only ``optimize`` sends heartbeats, and a trial whose worker times out is failed and re-enqueued in
two steps, between which it can be lost. Here a single statement takes a lease; its owner renews it; after a heartbeat
timeout, or once the owner is known to be dead, the next worker takes it over. An owner that resumes after that finds
its renewal refused.

Times are the database's, so that clock differences between machines do not matter.
"""

import contextlib
import math
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from workbench.process import boot_id, started_at, this_host

if TYPE_CHECKING:
    from sqlalchemy import Engine, Table


class LeaseOwner(BaseModel):
    """A process, identified by host, boot, PID namespace, PID and start time."""

    model_config = ConfigDict(frozen=True)

    host: str
    boot: str
    namespace: str
    pid: int
    started: str

    def is_known_dead(self) -> bool:
        """Whether the process is visible from here and has ended; for others only the heartbeat timeout applies."""
        here = this_process()
        if (self.host, self.boot, self.namespace) != (here.host, here.boot, here.namespace):
            return False
        return started_at(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> LeaseOwner:
    """The calling process."""
    pid = os.getpid()
    return LeaseOwner(
        host=this_host(), boot=boot_id(), namespace=_namespace(), pid=pid, started=started_at(pid) or "unknown"
    )


def _namespace() -> str:
    """The PID namespace; containers may share host name and boot but not PIDs."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


TABLE = "workbench_leases"
DEFAULT_GRACE_S = 120.0
BEATS_PER_GRACE = 6  # heartbeats per timeout: one lost beat must not cost the lease
POLL_S = 0.2


@dataclass(frozen=True)
class Taken:
    """A lease that was just taken; ``num_deaths`` earlier owners died or timed out while holding it."""

    key: str
    num_deaths: int


class Leases:
    """The leases of one worker, renewed by a thread while the context is open.

    Args:
        engine: connection to the study's database.
        grace_s: heartbeat timeout, seconds.
    """

    def __init__(self, engine: "Engine", grace_s: float = DEFAULT_GRACE_S) -> None:
        self.grace_s = grace_s
        self._engine = engine
        self._table = _make_table(engine)
        self._token = secrets.token_hex(16)
        self._owner = this_process().model_dump_json()
        self._held: set[str] = set()
        self._beat_s = time.time()
        self._guard = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, daemon=True, name="leases")

    def __enter__(self) -> "Leases":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(timeout=self.grace_s)
        for key in list(self._held):
            with contextlib.suppress(Exception):  # the database may be gone; the lease then times out
                self.release(key)

    def take(self, key: str, *, most_deaths: float = math.inf) -> Taken | None:
        """Take the lease unless a live worker holds it. A single statement, so that only one of several succeeds.

        Args:
            most_deaths: refuse if more owners than this died while holding it.
        """
        taken = self._take(key, most_deaths)
        if taken:
            with self._guard:
                self._held.add(key)
        return taken

    def _take(self, key: str, most_deaths: float) -> Taken | None:
        import sqlalchemy as sql
        from sqlalchemy.exc import IntegrityError

        table = self._table
        mine: dict[str, Any] = {"owner": self._owner, "token": self._token, "beat": sql.func.now(), "beats": 0}
        with self._engine.connect() as connection:
            old = connection.execute(sql.select(table, sql.func.now().label("now")).where(table.c.key == key)).first()
        if old is None:
            try:
                with self._engine.begin() as connection:
                    connection.execute(sql.insert(table).values(key=key, deaths=0, **mine))
            except IntegrityError:
                return None
            return Taken(key, 0)
        if old.token == self._token:  # already ours: an earlier release failed
            # Compare-and-swap: any renewal or takeover since the read changed token or beats, and matches no row.
            return Taken(key, old.deaths)
        if old.deaths >= most_deaths or not self._is_dead(old.owner, old.beat, old.now):
            return None
        claim = sql.update(table).where(table.c.key == key, table.c.token == old.token, table.c.beats == old.beats)
        with self._engine.begin() as connection:
            if connection.execute(claim.values(deaths=old.deaths + 1, **mine)).rowcount != 1:
                return None
        return Taken(key, old.deaths + 1)

    def _is_dead(self, owner: str, beat: datetime, now: datetime) -> bool:
        if (now - beat).total_seconds() > self.grace_s:
            return True
        return LeaseOwner.model_validate_json(owner).is_known_dead()

    def release(self, key: str) -> None:
        """Release the lease; no effect if another worker holds it by now."""
        import sqlalchemy as sql

        table = self._table
        with self._guard:
            self._held.discard(key)
        with self._engine.begin() as connection:
            connection.execute(sql.delete(table).where(table.c.key == key, table.c.token == self._token))

    def holds(self, keys: Iterable[str]) -> bool:
        """Whether this worker still holds all of these; queries the database only if a renewal is overdue.

        A process that was suspended finds out here that its leases were taken over. If the database cannot be reached,
        leases count as held.
        """
        if time.time() - self._beat_s > self.grace_s:
            self.beat()
        with self._guard:
            return self._held.issuperset(keys)

    def owner_of(self, key: str) -> str:
        """The lease's owner as text; empty if there is none."""
        import sqlalchemy as sql

        with self._engine.connect() as connection:
            owner = connection.execute(sql.select(self._table.c.owner).where(self._table.c.key == key)).scalar()
        return str(LeaseOwner.model_validate_json(owner)) if owner else ""

    @contextlib.contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Wait for the lease and hold it within the context: a mutex across processes."""
        while self.take(key) is None:
            time.sleep(POLL_S)
        try:
            yield
        finally:
            self.release(key)

    def beat(self) -> None:
        """Renew all held leases, and drop those that were taken over."""
        import sqlalchemy as sql
        from sqlalchemy.exc import SQLAlchemyError

        table = self._table
        with self._guard:
            held = set(self._held)
        try:
            with self._engine.begin() as connection:
                connection.execute(
                    sql.update(table)
                    .where(table.c.token == self._token)
                    .values(beat=sql.func.now(), beats=table.c.beats + 1)
                )
                own = set(connection.execute(sql.select(table.c.key).where(table.c.token == self._token)).scalars())
        except SQLAlchemyError:  # retried at the next beat
            return
        self._beat_s = time.time()
        with self._guard:
            self._held -= held - own

    def _keep_beating(self) -> None:
        while not self._closing.wait(self.grace_s / BEATS_PER_GRACE):
            self.beat()


def _make_table(engine: "Engine") -> "Table":
    """The table, created if missing; safe if several processes create it at the same time."""
    import sqlalchemy as sql
    from sqlalchemy.exc import DBAPIError

    table = sql.Table(
        TABLE,
        sql.MetaData(),
        sql.Column("key", sql.String(255), primary_key=True),
        sql.Column("owner", sql.String(1024), nullable=False),
        sql.Column("token", sql.String(32), nullable=False),
        sql.Column("beat", sql.DateTime(timezone=True), nullable=False),
        sql.Column("beats", sql.Integer, nullable=False),
        sql.Column("deaths", sql.Integer, nullable=False),
    )
    try:
        table.create(engine, checkfirst=True)
    except DBAPIError:
        if not sql.inspect(engine).has_table(TABLE):
            raise
    return table
