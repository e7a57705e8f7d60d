"""Leases: only one of several workers gets one; dead and timed-out workers lose theirs, and notice."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy

from workbench.sweeps.leases import Leases


@pytest.fixture
def engine(tmp_path):
    return sqlalchemy.create_engine(f"sqlite:///{tmp_path}/leases.db", connect_args={"timeout": 60})


def test_of_many_who_ask_at_once_one_gets_it(takers, engine):
    assert takers(6, lambda: Leases(engine)) == [1, 1, 1]


def test_a_lease_that_is_given_back_is_new_again(engine):
    one, other = Leases(engine), Leases(engine)
    assert one.take("a").num_deaths == 0
    assert other.take("a") is None
    other.release("a")  # not its own
    assert other.take("a") is None
    one.release("a")
    assert other.take("a").num_deaths == 0


def make_old(engine, owner=None):
    """As if the owner had said nothing for an hour, or were another."""
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE workbench_leases SET beat = datetime(beat, '-1 hour')"))
        if owner:
            connection.execute(sqlalchemy.text("UPDATE workbench_leases SET owner = :owner"), {"owner": owner})


def test_timed_out_workers_lose_their_lease_and_notice_when_they_resume(engine):
    sleeper, other = Leases(engine, grace_s=60), Leases(engine, grace_s=60)
    sleeper.take("a")
    assert other.take("a") is None
    make_old(engine)
    assert other.take("a", most_deaths=0) is None
    assert other.take("a").num_deaths == 1
    sleeper.beat()
    assert not sleeper.holds(["a"])
    assert other.holds(["a"])
    sleeper.release("a")  # what it does not hold stays with the other
    other.beat()
    assert other.holds(["a"])


def test_a_beat_keeps_the_lease(engine):
    owner, other = Leases(engine, grace_s=60), Leases(engine, grace_s=60)
    owner.take("a")
    make_old(engine)
    owner.beat()
    assert other.take("a") is None


@pytest.mark.slow
def test_a_thread_beats_while_the_owner_is_busy(engine):
    with Leases(engine, grace_s=3) as owner:
        owner.take("a")
        time.sleep(4.5)
        assert Leases(engine, grace_s=3).take("a") is None
    assert Leases(engine, grace_s=3).take("a").num_deaths == 0  # an orderly end gives it back


def test_a_process_that_died_here_is_not_waited_for(engine, tmp_path):
    code = (
        "import sqlalchemy, sys; from workbench.sweeps.leases import Leases; "
        "Leases(sqlalchemy.create_engine(sys.argv[1])).take('a'); import os; os.kill(os.getpid(), 9)"
    )
    died = subprocess.run([sys.executable, "-c", code, f"sqlite:///{tmp_path}/leases.db"], check=False)
    assert died.returncode == -9
    taken = Leases(engine, grace_s=3600).take("a")
    assert taken.num_deaths == 1
    assert str(os.getpid()) in Leases(engine).owner_of("a")


def test_a_process_elsewhere_is_given_the_grace_period(engine):
    owner, other = Leases(engine, grace_s=60), Leases(engine, grace_s=60)
    owner.take("a")
    elsewhere = {"host": "elsewhere", "boot": "b", "namespace": "n", "pid": 1, "started": "s"}
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE workbench_leases SET owner = :o"), {"o": json.dumps(elsewhere)})
    assert other.take("a") is None
    assert "process 1 on elsewhere" in other.owner_of("a")
    make_old(engine)
    assert other.take("a") is not None


def test_one_at_a_time(engine):
    inside, most = [0], [0]

    def enter():
        leases = Leases(engine)
        for _ in range(3):
            with leases.alone("queue"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.01)
                inside[0] -= 1

    threads = [threading.Thread(target=enter) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
