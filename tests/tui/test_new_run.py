import pytest

from workbench.config.toml import load_recipe
from workbench.tui.new_run import Draft, setting_help, sweep_command, sweep_summary


def test_every_setting_of_the_recipe_is_listed_with_help(tmp_path) -> None:
    rows = Draft(tmp_path).rows()
    assert rows["train.batch_size"] == str(load_recipe("clip-kd").train.batch_size)
    assert {"recipe", "name", "steps", "seed", "optimizer.learning_rate", "loss.fd.weight"} <= rows.keys()
    assert [name for name in rows if not setting_help(name)] == []


def test_an_edit_is_checked_and_reverted_when_emptied(tmp_path) -> None:
    draft = Draft(tmp_path)
    draft.change("train.batch_size", "64")
    assert draft.config().train.batch_size == 64
    draft.change("train.batch_size", "minus one")
    with pytest.raises(ValueError, match=r"train\.batch_size"):
        draft.summary()
    draft.change("train.batch_size", "")
    assert draft.config() == load_recipe("clip-kd")
    draft.change("recipe", "clip-kf")
    with pytest.raises(ValueError, match="clip-kd"):
        draft.summary()


def test_the_command_starts_the_run_of_the_summary(tmp_path) -> None:
    draft = Draft(tmp_path)
    for name, text in {"recipe": "icl", "steps": "40", "seed": "3", "name": "mine", "loss.icl.weight": "2"}.items():
        draft.change(name, text)
    config = draft.config()
    assert (config.seed, config.data.seed, config.train.num_steps) == (3, 3, 40)
    command = draft.command()
    assert command[0] == "train"
    assert command[command.index("--set") + 1] == "loss.icl.weight=2"
    assert command[-4:] == ["--runs", str(tmp_path), "--detach", "--json"]
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="already exists"):
        draft.summary()


def test_a_sweep_is_checked_like_its_command(tmp_path) -> None:
    filled = {"study": "icl_weight", "seeds": "", "steps": "", "changes": ""}
    assert sweep_command(filled, tmp_path) == ["sweep", "--study", "icl_weight", "--runs", str(tmp_path)]
    assert "15 runs" in sweep_summary(filled, tmp_path)
    assert "25 runs" in sweep_summary(filled | {"seeds": "5"}, tmp_path)
    for wrong, named in (
        ({"study": "icl_wait"}, "icl_weight"),
        ({"study": ""}, "study's name"),
        ({"seeds": "0"}, "seeds must be"),
        ({"changes": "train.batch_sise=3"}, "batch_size"),
        ({"changes": "loss.icl.weight=3"}, "varies"),
    ):
        with pytest.raises(ValueError, match=named):
            sweep_command(filled | wrong, tmp_path)


def test_a_run_is_edited_checked_and_started(drive, seen, notices, soon, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    async def call(command: list[str]) -> str:
        asked.append(command)
        return '{"id": "mine"}'

    monkeypatch.setattr("workbench.tui.host.call", call)

    async def steps(pilot) -> None:
        await pilot.press("N")
        assert "start a run" in seen(pilot)
        await pilot.press("slash", *"train.batch_size", "enter")
        assert list(pilot.app.screen.query_one("Rows").lines) == ["train.batch_size"]
        await pilot.press("enter", *"x", "enter")
        assert "train.batch_size" in seen(pilot).splitlines()[0]
        await pilot.press("S")
        assert type(pilot.app.screen).__name__ == "NewRunScreen"  # what is wrong is not started
        await pilot.press("enter", *"32", "enter", "S")
        await pilot.pause()
        assert "workbench train --recipe clip-kd" in seen(pilot)
        await pilot.press("y")
        await soon(lambda: "mine is training" in notices(pilot))

    drive(steps)
    (command,) = asked
    assert "train.batch_size=32" in command


def test_a_sweep_is_started_from_the_studies(record, drive, seen, notices, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("workbench.process.start_detached", lambda argv, _: started.append(argv[3:]))

    async def steps(pilot) -> None:
        await pilot.press("u", "u", "N")
        assert "enter a study's name" in seen(pilot)
        await pilot.press(*"icl_weight")
        assert "15 runs" in seen(pilot)
        await pilot.press("enter")
        await pilot.pause()
        assert "sweep started" in notices(pilot)

    drive(steps)
    assert started == [["sweep", "--study", "icl_weight", "--runs", str(record.folder)]]


def test_the_first_match_of_the_filter_is_edited(drive) -> None:
    async def steps(pilot) -> None:
        await pilot.press("N", "j", "j", "slash", *"batch", "enter", "enter")
        await pilot.press("ctrl+u", *"16", "enter")
        assert pilot.app.screen.draft.settings == {"train.batch_size": "16"}

    drive(steps)


def test_settings_come_in_groups_that_open(drive, seen) -> None:
    async def steps(pilot) -> None:
        await pilot.press("N")
        rows = pilot.app.screen.query_one("Rows")
        assert "recipe" in rows.lines
        assert "group/optimizer" in rows.lines
        assert "optimizer.learning_rate" not in rows.lines
        assert "learning_rate=0.002" in seen(pilot)  # a closed group tells what is in it
        rows.move_to(list(rows.lines).index("group/optimizer"))
        await pilot.press("enter", "j", "enter", "ctrl+u", *"0.01", "enter")
        assert pilot.app.screen.draft.settings == {"optimizer.learning_rate": "0.01"}
        await pilot.press("k", "enter")
        assert "optimizer.learning_rate" in rows.lines  # what was edited stays in sight

    drive(steps)
