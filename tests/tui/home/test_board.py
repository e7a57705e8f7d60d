"""Load tests: 200 runs, nine live ones, a million events, a jumping clock."""

import shutil
import subprocess
import sys
import time

import pytest

from workbench.runs.directory import RunDirectory
from workbench.tui.follow import RunFollower
from workbench.tui.home.board import Board
from workbench.tui.rows import Rows


@pytest.fixture
def many(record):
    """200 copies of two runs, nine of them live."""
    done, live = record("done"), record("live", last=50, state=None)
    for number in range(190):
        shutil.copytree(done.path, record.folder / f"done-{number}")
    for number in range(8):
        shutil.copytree(live.path, record.folder / f"live-{number}")
    return record.folder


def test_a_folder_of_200_runs_is_on_screen_in_a_second_of_work(many) -> None:
    """Counts CPU time of the process, as other processes share the machine."""
    script = (
        "import asyncio, time\n"
        "from pathlib import Path\n"
        "import sys\n"
        "from workbench.tui.app import Workbench\n"
        "async def main():\n"
        "    app = Workbench(Path(sys.argv[1]))\n"
        "    async with app.run_test(size=(140, 45)):\n"
        "        print(time.process_time(), len(app.screen.query_one('Rows').lines))\n"
        "asyncio.run(main())\n"
        "print(*(name in sys.modules for name in ('torch', 'optuna', 'pandas', 'scipy')))\n"
    )
    for _ in range(3):  # a core that is shared counts more seconds for the same work
        command = [sys.executable, "-c", script, str(many)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        first, second = out.splitlines()
        assert first.split()[1] == "200"
        if float(first.split()[0]) < 1:
            break
    assert float(first.split()[0]) < 1
    assert second == "False False False False"


@pytest.mark.usefixtures("many")
def test_live_runs_among_many_come_first_and_grow(record, drive, done, seen, soon) -> None:
    async def steps(pilot) -> None:
        assert len(list(pilot.app.screen.query_one(Rows).lines)) == 200
        await soon(lambda: "9 live" in seen(pilot))
        for step in range(60, 100, 10):
            record.log("live", done("live", step))
        await soon(lambda: " 90%" in seen(pilot))

    drive(steps)


def test_polling_ended_runs_again_costs_little(many) -> None:
    board = Board(many)
    while board.poll(5.0):
        pass
    costs_s = []
    for _ in range(5):
        start = time.process_time()
        board.poll()
        costs_s.append(time.process_time() - start)
    assert min(costs_s) < 0.1  # the least: a core that is shared counts more seconds for the same work


def test_a_jumping_clock_does_no_harm(record, drive, seen, done) -> None:
    run = record("one", last=20, state=None)
    record.log(
        "one", done("one", 30, time_s=time.time() + 1e6), done("one", 40, time_s=0.0), done("one", 50, time_s=-1e18)
    )

    async def steps(pilot) -> None:
        assert "step 50 of 100" in seen(pilot)
        await pilot.press("x", "8", "3")

    drive(steps, run)


@pytest.mark.slow
def test_a_million_events_are_read_piece_by_piece_while_keys_are_answered(record, drive, seen, done, soon) -> None:
    run = record("one", last=10, state=None)
    template = done("one", 10).to_line()
    lines = [template.replace('"step":10,', f'"step":{step},') for step in range(11, 1_000_011)]
    with run.events_file.open("a") as log:
        log.write("\n".join(lines) + "\n")

    async def steps(pilot) -> None:
        assert "reading its log" in seen(pilot)
        start = time.monotonic()
        await pilot.press("3", "1")
        assert time.monotonic() - start < 10
        await soon(lambda: "reading its log" not in seen(pilot), 400)
        total = pilot.app.screen.follower.history.group("loss")["total"]
        assert total.series.step[-1] == 1_000_010
        assert len(total.series.step) < 20_000

    drive(steps, run)


def test_a_torn_last_line_is_read_once_complete(record, done) -> None:
    run = RunDirectory(record("one", last=20, state=None).path)
    follower = RunFollower(run)
    while follower.poll():
        pass
    line = done("one", 30).to_line() + "\n"
    with run.events_file.open("a") as log:
        log.write(line[:40])
        log.flush()
        follower.poll()
        assert follower.history.num_skipped == 0
        log.write(line[40:])
    follower.poll()
    assert follower.history.group("loss")["total"].series.step[-1] == 30
