"""Several runs in one chart: a run's letter and color are the same in every plot, and all of them are named."""

import re

from workbench.runs.directory import RunDirectory
from workbench.tui.compare import CompareScreen, RunGroup


def followed(runs: list[RunDirectory]) -> RunGroup:
    group = RunGroup(runs)
    while group.poll():
        pass
    return group


def test_a_run_keeps_its_letter_and_color_where_another_has_no_curve(record, done) -> None:
    runs = [record(name, last=0, state="") for name in ("one", "two", "three")]
    for run in runs:
        scales = {} if run.id == "one" else {"student": 14.0}
        record.log(run.id, done(run.id, 10, scales=scales), done(run.id, 20, scales=scales))
    group = followed(runs)
    everywhere = {one.name: (one.letter, one.color) for one in group.plot(("loss", "total")).curves}
    assert [letter for letter, _ in everywhere.values()] == ["a", "b", "c"]
    some = {one.name: (one.letter, one.color) for one in group.plot(("scales", "student")).curves}
    assert some == {run: everywhere[run] for run in ("two", "three")}


def test_many_runs_are_all_named_in_a_narrow_terminal(record, drive, seen) -> None:
    runs = [record(f"run-{number}") for number in range(10)]

    async def steps(pilot) -> None:
        await pilot.app.push_screen(CompareScreen(runs))
        await pilot.pause()
        head = "\n".join(seen(pilot).splitlines()[:3])
        assert re.findall(r"\b([a-j]) run-(\d)", head) == [("abcdefghij"[n], str(n)) for n in range(10)]

    drive(steps, size=(80, 24))
