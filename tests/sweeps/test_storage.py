"""The file that schedules a study, after its writer was killed amid a change."""

import sqlite3
import subprocess
import sys
from contextlib import closing

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
