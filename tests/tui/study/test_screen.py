import json
import shutil

import pytest

from workbench.tui.rows import Rows

CELLS = {f"{weight}": {"loss.fd.weight": weight} for weight in (0, 10, 100, 1000, 2000, 3000)}


async def read(pilot, soon) -> None:
    await soon(lambda: pilot.app.screen.study_state is not None)
    await pilot.pause()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of started processes; none really starts."""
    found: list[list[str]] = []
    monkeypatch.setattr("workbench.process.start_detached", lambda argv, _: found.append(argv[1:]))
    return found


def test_the_table_has_seeds_intervals_and_the_papers_column(record, drive, seen, soon) -> None:
    record.study("fd_weight", CELLS)
    shutil.rmtree(record.folder / "fd_weight-3000-s1")

    async def steps(pilot) -> None:
        await read(pilot, soon)
        text = seen(pilot)
        assert "Which weight of feature distillation" in text
        assert "18 runs: 11 finished, 7 missing" in text
        line = next(line for line in text.splitlines() if " 1000 " in line)
        assert "●●·" in line
        assert " 40.6 " in line  # the mean of 40.1 and 41.1 test pairs
        assert " 36.7 " in line  # CLIP-KD, Table 1
        assert "+30.0" in line
        assert "●··" in next(line for line in text.splitlines() if " 3000 " in line)

    drive(steps, study="fd_weight", size=(140, 45))


@pytest.mark.parametrize("size", [(80, 24), (50, 20)])
def test_columns_that_do_not_fit_are_dropped_from_the_right(record, drive, seen, soon, size) -> None:
    record.study("fd_weight", CELLS)

    async def steps(pilot) -> None:
        await read(pilot, soon)
        heading = next(line for line in seen(pilot).splitlines() if "seeds" in line)
        assert heading.split()[:3] == ["cell", "seeds", "ours"]
        assert "verdict" in heading  # what one came for, and kept longest
        assert ("paper" in heading) == (size[0] == 80)
        assert ("95 %" in heading) == (size[0] == 80)

    drive(steps, study="fd_weight", size=size)


def test_every_pane_and_every_metric_can_be_shown(record, drive, seen, soon) -> None:
    record.study("fd_weight", CELLS)

    async def steps(pilot) -> None:
        await read(pilot, soon)
        await pilot.press("m")
        assert "text→image" in seen(pilot) or "zero-shot" in seen(pilot)
        await pilot.press("M")
        assert "image→text R@1 (%)" in seen(pilot)
        await pilot.press("2")
        assert "fd_weight-0-s0" in seen(pilot)
        await pilot.press("3")
        assert "Findings" in seen(pilot)
        await pilot.press("4")
        assert "image→text R@1 on validation, mean over seeds" in seen(pilot)
        await pilot.press("e", "Y")

    drive(steps, study="fd_weight", size=(110, 30))


def test_a_cell_opens_its_runs_and_a_run_opens_itself(record, drive, soon) -> None:
    record.study("fd_weight", CELLS)

    async def steps(pilot) -> None:
        await read(pilot, soon)
        await pilot.press("j", "enter")
        await soon(lambda: type(pilot.app.screen).__name__ == "WorkspaceScreen")
        assert [follower.run.id for follower in pilot.app.screen.group.followers] == [
            "fd_weight-10-s0",
            "fd_weight-10-s1",
        ]
        await pilot.press("escape")
        await pilot.press("2", "G", "enter")
        await soon(lambda: type(pilot.app.screen).__name__ == "RunScreen")

    drive(steps, study="fd_weight")


def test_home_lists_studies_and_opens_them(record, drive, seen, soon) -> None:
    record.study("fd_weight", CELLS)
    record("alone")

    async def steps(pilot) -> None:
        await pilot.press("u")
        assert next(iter(pilot.app.screen.query_one(Rows).lines)) == "study/fd_weight"
        assert list(pilot.app.screen.query_one(Rows).lines)[-1] == "alone"
        await pilot.press("u")
        assert list(pilot.app.screen.query_one(Rows).lines) == ["study/fd_weight"]
        await soon(lambda: "67%" in seen(pilot))  # 12 of the 18 runs that the study's file plans
        assert "60.5" in seen(pilot)  # of its best cell, on validation
        await pilot.press("enter")
        assert type(pilot.app.screen).__name__ == "StudyScreen"

    drive(steps)


def test_a_study_without_a_file_is_told_from_its_runs(record, drive, seen, soon, notices, started) -> None:
    record.study("my[/b]own", {"a": {"loss.fd.weight": 1}, "b": {"loss.fd.weight": 2}})

    async def steps(pilot) -> None:
        await read(pilot, soon)
        assert "my[/b]own" in seen(pilot)
        assert "4 runs: 4 finished" in seen(pilot)
        await pilot.press("R")
        await pilot.pause()
        assert "no study file of this name" in notices(pilot)

    drive(steps, study="my[/b]own")
    assert started == []


def test_resume_and_more_seeds_run_the_sweep_command(record, drive, soon, started) -> None:
    record.study("fd_weight", CELLS, seeds=3)
    shutil.rmtree(record.folder / "fd_weight-3000-s2")
    (record.folder / "studies").mkdir()
    (record.folder / "studies/fd_weight.db").write_bytes(b"")

    async def steps(pilot) -> None:
        await read(pilot, soon)
        await pilot.press("R")
        await pilot.press("n")
        assert started == []
        await pilot.press("R")
        await pilot.press("y")
        await pilot.press("A")
        await pilot.press("ctrl+u", "2")
        assert pilot.app.screen.query_one("#yes").disabled  # it has 3 already
        await pilot.press("ctrl+u", "5", "enter")

    drive(steps, study="fd_weight")
    resumed, more = started
    assert resumed[:5] == ["-m", "workbench", "sweep", "--study", "fd_weight"]
    assert resumed[-3:] == ["--resume", "--runs", str(record.folder)]
    assert more[more.index("--seeds") + 1] == "5"


def test_a_live_run_of_a_cell_is_stopped_by_a_command(record, drive, soon, notices) -> None:
    record.study("fd_weight", {"0": CELLS["0"]}, seeds=1, state=None, last=50)

    async def steps(pilot) -> None:
        await read(pilot, soon)
        await pilot.press("R")
        await pilot.pause()
        assert "1 of its runs are still running" in notices(pilot) or "storage is not" in notices(pilot)
        await pilot.press("X", "y")
        await pilot.pause()

    drive(steps, study="fd_weight")
    (command,) = (record.folder / "fd_weight-0-s0/control").iterdir()
    assert json.loads(command.read_text())["kind"] == "stop"


def test_runs_removed_while_shown_count_as_missing(record, drive, seen, soon) -> None:
    record.study("fd_weight", CELLS)

    async def steps(pilot) -> None:
        await read(pilot, soon)
        shutil.rmtree(record.folder)
        pilot.app.screen._next_read_s = 0.0
        await soon(lambda: "18 missing" in seen(pilot) or "no run of study" in seen(pilot))

    drive(steps, study="fd_weight")
