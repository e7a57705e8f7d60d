"""The file that schedules a study, after its writer was killed amid a change."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from workbench.sweeps import storage
from workbench.sweeps.storage import open_storage

KILLED_AMID_A_CHANGE = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")  # so that the change is in the file before it is whole
connection.execute("BEGIN IMMEDIATE")
connection.execute("CREATE TABLE half (x)")
connection.executemany("INSERT INTO half VALUES (?)", [("x" * 1000,)] * 500)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_change_that_was_cut_short_by_a_kill_is_undone(tmp_path):
    file = tmp_path / "study.db"
    open_storage("", file).engine.dispose()
    before = file.stat().st_size
    killed = subprocess.run([sys.executable, "-c", KILLED_AMID_A_CHANGE, str(file)], check=False)
    assert killed.returncode == -9
    assert (tmp_path / "study.db-journal").stat().st_size > 0
    assert file.stat().st_size > before
    assert open_storage("", file).get_all_studies() == []
    with closing(sqlite3.connect(file)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert "half" not in tables
    assert "studies" in tables


OPEN = (
    "import sys; from workbench.sweeps.storage import open_storage; print(open_storage(sys.argv[1]).get_all_studies())"
)


def test_of_many_who_make_its_tables_at_once_all_get_them(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    all_of_them = [
        subprocess.Popen([sys.executable, "-c", OPEN, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [one.communicate(timeout=120) for one in all_of_them] == [("[]\n", "")] * 4


def test_a_loser_opens_again_and_gives_up_in_the_end(monkeypatch):
    monkeypatch.setattr(storage, "RETRY_S", 0)
    lost: list[Exception] = [
        IntegrityError("INSERT", None, sqlite3.IntegrityError("UNIQUE constraint failed: alembic_version.version_num")),
        OperationalError("CREATE TABLE", None, sqlite3.OperationalError("table studies already exists")),
    ]
    tries: list[Exception] = []

    def make():
        if len(tries) < len(lost):
            tries.append(lost[len(tries)])
            raise tries[-1]
        return "made"

    assert storage._retry_if_contested(make) == "made"
    lost = [lost[0]] * storage.MAX_ATTEMPTS
    tries.clear()
    with pytest.raises(IntegrityError):
        storage._retry_if_contested(make)
    assert len(tries) == storage.MAX_ATTEMPTS
