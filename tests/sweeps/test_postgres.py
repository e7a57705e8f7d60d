"""A study on a real PostgreSQL server: leases, two workers, and a server that goes away for a while.

The server is a private one, from Debian's packages (``apt-get install postgresql``), on a socket in its own folder.
"""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy

from workbench.events import RunFinished, StepDone
from workbench.runs.log import read_events
from workbench.runs.studies import runs_of_study
from workbench.sweeps.leases import Leases
from workbench.sweeps.storage import open_storage

pytestmark = pytest.mark.slow


class Server:
    """A PostgreSQL server that trusts whoever reaches its socket; it refuses to run as root."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.folder = folder
        self._programs = programs
        self._user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        if self._user:
            shutil.chown(folder, "postgres", "postgres")
        self._run("initdb", "-U", "workbench", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")

    def start(self) -> None:
        settings = f"-F -c listen_addresses= -c unix_socket_directories={self.folder} -c timezone=UTC"
        self._run("pg_ctl", "start", "-w", "-l", self.folder / "log", "-o", settings)

    def stop(self) -> None:
        """As if it had crashed."""
        self._run("pg_ctl", "stop", "-m", "immediate")

    def url(self, database: str) -> str:
        return f"postgresql://workbench@/{database}?host={self.folder}"

    def _run(self, program: str, *arguments: object) -> None:
        argv = [self._programs / program, "-D", self.folder / "data", *map(str, arguments)]
        with (self.folder / "said").open("w+") as said:  # a pipe would be kept open by the server
            done = subprocess.run(argv, cwd=self.folder, stdout=said, stderr=said, check=False, **self._user)
        assert done.returncode == 0, (self.folder / "said").read_text()


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("psycopg")
    found = [Path(program).parent for program in (shutil.which("initdb"),) if program]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    if os.getuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    folder = Path(tempfile.mkdtemp(prefix="workbench-pg-", dir="/tmp"))  # a socket's path is short
    made = Server(found[-1], folder)
    made.start()
    yield made
    made.stop()
    shutil.rmtree(folder)


@pytest.fixture
def url(server, tmp_path):
    """A database of the test's own."""
    name = f"test_{abs(hash(tmp_path))}"
    engine = sqlalchemy.create_engine(driven(server.url("postgres")), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.url(name)


def driven(url):
    return url.replace("postgresql:", "postgresql+psycopg:")


def test_of_many_who_ask_at_once_one_gets_the_lease(takers, url):
    assert takers(6, lambda: Leases(sqlalchemy.create_engine(driven(url)))) == [1, 1, 1]


def test_timed_out_workers_lose_their_lease_whatever_their_clocks_and_time_zones(url):
    engine = sqlalchemy.create_engine(driven(url))
    far_away = sqlalchemy.create_engine(driven(url), connect_args={"options": "-c timezone=Asia/Tokyo"})
    sleeper, other = Leases(engine, grace_s=60), Leases(far_away, grace_s=60)
    sleeper.take("a")
    assert other.take("a") is None
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE workbench_leases SET beat = beat - interval '61 seconds'"))
    assert other.take("a").num_deaths == 1
    sleeper.beat()
    assert not sleeper.holds(["a"])
    assert other.holds(["a"])


def test_64_workers_fit_in_the_connections_of_a_server(url):
    number = 64
    # Opening takes two connections, and a server allows 100: more at once would wait for each other.
    opening, taken = threading.Semaphore(16), []

    def work(key):
        with opening:
            engine = open_storage(url).engine
        leases = Leases(engine)
        taken.append((leases.take(key), leases.take("of all"), engine))
        leases.beat()

    threads = [threading.Thread(target=work, args=(f"run {worker}",)) for worker in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == number
    assert all(own for own, _, _ in taken)
    assert sum(shared is not None for _, shared, _ in taken) == 1
    with taken[0][2].connect() as connection:
        count = sqlalchemy.text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        assert connection.execute(count).scalar() <= number
    for _, _, engine in taken:
        engine.dispose()


def start(folder, url, *options):
    command = [sys.executable, "-m", "workbench", "sweep", "--study", "grid.toml", "--storage", url, *options]
    log = (folder / "workers.log").open("ab")
    return subprocess.Popen([*command, "--json"], cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True)


def ends(folder, runs):
    """How often each cell and seed was trained to its end."""
    found = runs_of_study(folder / runs, "grid")
    return Counter(
        (one.origin.cell, one.origin.seed)
        for one in found
        for event in read_events(one.run.events_file, (RunFinished,)).events
        if event.state == "finished"
    )


GRID = {(cell, seed): 1 for cell in "015" for seed in (0, 1)}


def test_two_machines_train_every_cell_once_and_both_report_all(folder, url):
    both = [start(folder, url, "--runs", runs) for runs in ("here", "there")]
    documents = [json.loads(one.communicate(timeout=500)[0]) for one in both]
    assert [one.returncode for one in both] == [0, 0], (folder / "workers.log").read_text()
    assert documents[0] == documents[1]
    assert [cell["seeds"] for cell in documents[0]["cells"]] == [[0, 1]] * 3
    assert ends(folder, "here") + ends(folder, "there") == GRID


def test_a_server_that_goes_away_is_waited_for(folder, url, server):
    (folder / "tiny.toml").write_text((folder / "tiny.toml").read_text().replace("num_steps = 6", "num_steps = 60"))
    worker = start(folder, url)
    until = time.monotonic() + 300

    def began():
        runs = [one.run for one in runs_of_study(folder / "runs", "grid")]
        return any(read_events(run.events_file, (StepDone,)).events for run in runs)

    while not began():
        assert time.monotonic() < until
        time.sleep(0.2)
    server.stop()
    while "the study's database is unreachable" not in (folder / "workers.log").read_text():
        assert time.monotonic() < until
        assert worker.poll() is None, (folder / "workers.log").read_text()
        time.sleep(0.2)
    server.start()
    document = json.loads(worker.communicate(timeout=400)[0])
    assert worker.returncode == 0, (folder / "workers.log").read_text()
    assert {cell["state"] for cell in document["cells"]} == {"finished"}
    assert ends(folder, "runs") == GRID
