import json
import shutil
from pathlib import Path

import pytest

from workbench.tui.dialogs import keys_text
from workbench.tui.home.screen import HomeScreen
from workbench.tui.preferences import read_preferences
from workbench.tui.rows import Rows


def shown(pilot) -> list[str]:
    return list(pilot.app.screen.query_one(Rows).lines)


def test_the_live_run_comes_first_with_state_progress_and_time_left(record, drive, seen) -> None:
    record("live", last=40, state=None)
    for name in ("old", "older"):
        record(name)

    async def steps(pilot) -> None:
        text = seen(pilot)
        (line,) = (line for line in text.splitlines() if " live " in line and "runs" not in line)
        assert shown(pilot)[0] == "live"
        assert "running" in line
        assert " 40%" in line
        assert "6 s" in line  # 60 steps of 0.1 s
        assert "3 runs · 1 live" in text

    drive(steps)


@pytest.mark.parametrize("state", ["finished", "diverged", "interrupted", "stopped", "failed"])
def test_every_final_state_is_shown(record, drive, seen, state: str) -> None:
    record("one", state=state)

    async def steps(pilot) -> None:
        assert state in seen(pilot)

    drive(steps)


def test_a_run_whose_process_is_gone_is_dead(record, drive, seen) -> None:
    record("one", state="")

    async def steps(pilot) -> None:
        assert "dead" in seen(pilot)

    drive(steps)


def test_a_live_run_without_events_is_shown_as_silent(record, drive, seen, done) -> None:
    import time

    record("one", last=10, state=None, extra=[done("one", 20, time_s=time.time() - 75)])

    async def steps(pilot) -> None:
        assert "silent 1.2 min" in seen(pilot) or "silent 1.3 min" in seen(pilot)

    drive(steps)


def test_a_paused_run_is_shown_as_paused(record, drive, seen) -> None:
    from workbench.events import Commanded

    record("one", last=10, state=None, extra=[Commanded(run="one", step=10, command="pause", time_s=1.0)])

    async def steps(pilot) -> None:
        assert "paused" in seen(pilot)

    drive(steps)


def test_the_filter_selects_runs_and_is_forgotten_at_the_end(record, drive, seen) -> None:
    for name in ("alpha", "beta", "gamma"):
        record(name)

    async def steps(pilot) -> None:
        await pilot.press("slash", *"alp")
        assert shown(pilot) == ["alpha"]
        assert "1 of 3 runs" in seen(pilot)
        await pilot.press("enter")
        await pilot.press("s")  # saves the other preferences
        assert read_preferences().sort != "newest"
        assert read_preferences().filter == ""
        await pilot.press("slash", "z")
        assert "no run matches “alpz”" in seen(pilot)
        await pilot.press("escape")
        assert len(shown(pilot)) == 3

    drive(steps)


def test_the_sort_key_cycles_and_is_saved(record, drive) -> None:
    record("b", last=50, state="stopped")
    record("a", last=20, state="stopped")

    async def steps(pilot) -> None:
        assert shown(pilot) == ["a", "b"]
        await pilot.press("s", "s", "s")
        assert read_preferences().sort == "progress"
        assert shown(pilot) == ["b", "a"]

    drive(steps)


def test_enter_opens_and_escape_comes_back(record, drive) -> None:
    record("one")

    async def steps(pilot) -> None:
        await pilot.press("enter")
        await pilot.pause()
        assert pilot.app.screen.run_directory.id == "one"
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(pilot.app.screen, HomeScreen)

    drive(steps)


def test_the_mouse_moves_and_opens(record, drive) -> None:
    for name in ("one", "two", "three"):
        record(name)

    async def steps(pilot) -> None:
        await pilot.click(Rows, offset=(5, 2))
        assert pilot.app.screen.query_one(Rows).key == shown(pilot)[2]
        await pilot.click(Rows, offset=(5, 2), times=2)
        await pilot.pause()
        assert pilot.app.screen.run_directory.id == "one"

    drive(steps)


def test_vim_keys_and_arrows_move_alike(record, drive) -> None:
    for number in range(40):
        record(f"run-{number}", last=10)

    async def steps(pilot) -> None:
        rows = pilot.app.screen.query_one(Rows)
        for keys, place in (("jj", 2), ("k", 1), ("G", 39), ("g", 0)):
            await pilot.press(*keys)
            assert rows.cursor == place
        await pilot.press("down", "down", "up", "pagedown")
        assert rows.cursor > 10
        await pilot.press("ctrl+u", "end")
        assert rows.cursor == 39
        assert rows.scroll_offset.y > 10

    drive(steps)


def test_new_events_appear_and_a_removed_run_goes(record, drive, seen, done, soon) -> None:
    record("live", last=40, state=None)
    gone = record("gone")

    async def steps(pilot) -> None:
        record.log("live", done("live", 80))
        shutil.rmtree(gone.path)
        await soon(lambda: " 80%" in seen(pilot) and shown(pilot) == ["live"])

    drive(steps)


@pytest.mark.parametrize("opens", [False, True])
def test_what_lies_behind_a_dialog_goes_on(record, drive, done, soon, opens: bool) -> None:
    run = record("one", last=40, state=None)

    async def steps(pilot) -> None:
        def screenshot() -> str:
            return str(pilot.app.export_screenshot().replace("&#160;", " "))

        await soon(lambda: " 40%" in screenshot())
        await pilot.press("question_mark")
        record.log("one", done("one", 70))
        await soon(lambda: " 70%" in screenshot())
        assert pilot.app.screen.is_modal

    drive(steps, run=run if opens else None, size=(120, 60))  # the dialog must not cover the first row


def test_runs_of_a_study_stand_together(record, drive) -> None:
    for number, (study, seed) in enumerate([("b", 1), ("a", 0), ("b", 0)]):
        origin = {"study": study, "cell": "x=1", "seed": seed, "trial": 0}
        record(f"run-{number}", settings={"sweep": origin})

    async def steps(pilot) -> None:
        await pilot.press("u")
        assert shown(pilot) == ["study/b", "run-2", "run-0", "study/a", "run-1"]

    drive(steps)


def test_the_headline_metric_can_be_chosen(record, drive, seen) -> None:
    record("one")

    async def steps(pilot) -> None:
        assert "image→text R@1" in seen(pilot)
        assert "50.3" in seen(pilot)
        await pilot.press("m")
        assert "zero-shot top-1" in seen(pilot)
        assert "25.1" in seen(pilot)

    drive(steps)


HOSTILE = [
    "[b]",
    "[red]x[",
    "[@click=app.quit]",
    "a[red]b",
    "\N{RIGHT-TO-LEFT OVERRIDE}txet",
    "emoji-\N{FOX FACE}",
    "\N{HEBREW LETTER SHIN}\N{HEBREW LETTER LAMED}",
    "tab\there",
    "esc\x1b[2J",
    "x" * 200,
]


@pytest.mark.parametrize("size", [pytest.param((80, 24), marks=pytest.mark.slow), (140, 45), (60, 20), (20, 5)])
def test_hostile_names_and_numbers_are_shown_as_they_are(record, drive, seen, done, size) -> None:
    run = record(
        "plain", last=20, state="finished", extra=[done("plain", 30, float("nan")), done("plain", 40, float("inf"))]
    )
    for number, name in enumerate(HOSTILE):
        copy = run.path.with_name(name)
        shutil.copytree(run.path, copy)
        (copy / "run.toml").write_text(f'recipe = "[/b] {number}"\n')
    (run.path / "run.toml").write_bytes(b"\xff not toml [[")
    with run.events_file.open("ab") as log:
        log.write(b'{"event": "StepDone", "torn')

    async def steps(pilot) -> None:
        assert len(shown(pilot)) == 1 + len(HOSTILE)
        text = seen(pilot)
        assert "\x1b" not in text
        assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in text
        if size[0] >= 60:
            assert "[red]x[" in text
        for _ in range(len(HOSTILE) if size == (80, 24) else 0):
            await pilot.press("enter")
            await pilot.pause()
            await pilot.press("7", "8", "escape", "j")

    drive(steps, size=size)


def test_an_empty_folder_says_how_to_begin(drive, seen, record, soon) -> None:
    async def steps(pilot) -> None:
        assert "workbench train" in seen(pilot)
        record("first")
        await soon(lambda: shown(pilot) == ["first"])

    drive(steps)


def test_a_folder_that_is_a_file_is_said(drive, seen, record) -> None:
    record.folder.write_text("")

    async def steps(pilot) -> None:
        assert "workbench train" in seen(pilot)

    drive(steps)


def test_broken_preferences_are_ignored(record, drive, seen, tmp_path: Path) -> None:
    record("one")
    (tmp_path / "state/workbench").mkdir(parents=True, exist_ok=True)
    (tmp_path / "state/workbench/tui.json").write_text('{"theme": "no such", "pane": 7')

    async def steps(pilot) -> None:
        assert " one " in seen(pilot)

    drive(steps)


def test_the_theme_is_remembered(record, drive, tmp_path: Path) -> None:
    record("one")

    async def steps(pilot) -> None:
        await pilot.press("t")
        await pilot.pause()

    drive(steps)
    assert json.loads((tmp_path / "state/workbench/tui.json").read_text())["theme"] == "workbench-light"


LONG = "clip_kd_search-best-of-40-t00"


@pytest.mark.parametrize("size", [(80, 24), (60, 20), (40, 20)])
def test_names_that_differ_at_their_ends_can_be_told_apart(record, drive, seen, size) -> None:
    for number in (28, 29):
        record(f"{LONG}{number}-s1")

    async def steps(pilot) -> None:
        text = seen(pilot)
        assert "28-s1" in text
        assert "29-s1" in text
        assert ("left" in text) is False  # nothing is under way
        if size[0] >= 80:
            assert f"{LONG}28-s1" in text

    drive(steps, size=size)


def test_the_keys_at_the_foot_stay_visible_on_a_narrow_terminal(record, drive, seen) -> None:
    record("one")

    async def steps(pilot) -> None:
        for width in (80, 60, 40):
            await pilot.resize_terminal(width, 20)
            await pilot.pause()
            assert seen(pilot).splitlines()[-1].rstrip().endswith("? keys")

    drive(steps)


def test_every_key_is_listed_once_and_none_that_does_nothing(record, drive) -> None:
    record("one")

    async def steps(pilot) -> None:
        text = keys_text(pilot.app.screen).plain
        assert "scroll" not in text
        assert text.count("quit") == 1
        assert text.index("the runs") < text.index("everywhere")
        titles = [command.title for command in pilot.app.get_system_commands(pilot.app.screen)]
        assert len(titles) == len(set(titles))
        assert sum("quit" in title.lower() for title in titles) == 1

    drive(steps)


def test_a_search_is_finished_once_its_trials_are(record, drive, seen, soon, tmp_path: Path) -> None:
    search = '[search]\nloss.fd.weight = { low = 1, high = 9 }\n[[objectives]]\nmetric = "image_to_text_r1"\n'
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies/hunt.toml").write_text(
        f'question = "?"\nrecipe = "clip-kd"\nseeds = 2\ntrials = 3\npruner = "racing"\n{search}'
    )
    cells = {f"t{number:04d}": {"loss.fd.weight": number} for number in range(3)}
    record.study("hunt", cells)
    shutil.rmtree(record.folder / "hunt-t0002-s1")  # dropped before its last seed

    async def steps(pilot) -> None:
        await pilot.press("u", "u")
        await soon(lambda: "3 of 3 trials, 5 runs" in seen(pilot))
        assert "finished" in seen(pilot)
        assert "100%" in seen(pilot)
        shutil.rmtree(record.folder / "hunt-t0002-s0")
        await soon(lambda: "2 of 3 trials, 4 runs" in seen(pilot))
        assert "open" in seen(pilot)

    drive(steps, size=(140, 45))


def test_a_click_on_a_heading_sorts_and_a_second_one_reverses(record, drive, seen) -> None:
    for name, last in (("b", 50), ("a", 20), ("c", 30)):
        record(name, last=last, state="stopped")

    async def steps(pilot) -> None:
        heading = next(line for line in seen(pilot).splitlines() if "done" in line)
        await pilot.click("#headings", offset=(heading.index("done") + 2, 0))
        assert (read_preferences().sort, shown(pilot)) == ("progress", ["b", "c", "a"])
        assert "done▾" in seen(pilot)
        await pilot.click("#headings", offset=(heading.index("done") + 2, 0))
        assert shown(pilot) == ["a", "c", "b"]
        assert "done▴" in seen(pilot)
        await pilot.press("S")
        assert shown(pilot) == ["b", "c", "a"]

    drive(steps)


def test_a_query_is_completed_and_what_is_wrong_with_it_is_said(record, drive, seen) -> None:
    for weight in (1, 500):
        record(f"fd-{weight}", settings={"loss": {"fd": {"weight": weight}}})

    async def steps(pilot) -> None:
        await pilot.press("slash", *"loss.f", "tab")
        assert pilot.app.screen.query_one("#filter").value == "loss.fd.weight"
        await pilot.press(*">100")
        assert shown(pilot) == ["fd-500"]
        await pilot.press(*" los=1")
        assert "near to it" in seen(pilot).splitlines()[0]
        await pilot.press("escape")
        assert len(shown(pilot)) == 2

    drive(steps)


def test_picked_columns_are_shown_sorted_by_and_kept_in_a_named_view(record, drive, seen, notices) -> None:
    for weight in (20, 7):
        record(f"fd-{weight}", settings={"loss": {"fd": {"weight": weight}}})

    async def steps(pilot) -> None:
        await pilot.press("o", *["j"] * 2, "space", "enter")  # after the two metrics: the setting that differs
        assert read_preferences().columns == ["loss.fd.weight"]
        heading = next(line for line in seen(pilot).splitlines() if "state" in line)
        await pilot.click("#headings", offset=(heading.index("weight"), 0))
        assert shown(pilot) == ["fd-7", "fd-20"]
        await pilot.press("slash", *"fd-7", "enter", "V", *"small", "enter")
        assert "saved the view small" in notices(pilot)
        await pilot.press("escape", "s", "o", "backspace", "enter")
        assert len(shown(pilot)) == 2
        await pilot.press("V", "enter")
        assert shown(pilot) == ["fd-7"]
        assert read_preferences().columns == ["loss.fd.weight"]
        await pilot.press("V", "D")
        assert read_preferences().saved == {}

    drive(steps, size=(120, 30))


def test_a_metric_is_visible_in_a_tiny_terminal(record, drive, seen) -> None:
    record("a-run-with-a-long-name-s0")

    async def steps(pilot) -> None:
        (line,) = (line for line in seen(pilot).splitlines() if "finished" in line)
        assert "52.5" in line
        assert line.split()[0].endswith("s0")

    drive(steps, size=(40, 15))
