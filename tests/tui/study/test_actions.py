"""Adding trials and retrying cells: the commands sent to the sweep, and the storage of the search."""

import asyncio
import shutil
import sqlite3
from contextlib import closing

import pytest

from workbench.tui.study.state import overrides, queued_trials

CELLS = {f"{weight}": {"loss.fd.weight": weight} for weight in (0, 10)}
HUNT = """
question = "Which weight?"
recipe = "clip-kd"
seeds = 1
trials = 2
confirm_seeds = 0
[search]
loss.fd.weight = { low = 1.0, high = 100.0, log = true }
loss.crd.weight = { low = 0, high = 8, step = 2 }
loss.mfd.mask_ratio = { choices = [0.25, 0.5] }
[settings]
loss.mfd.weight = 1.0
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    """The command lines that were called and those that were started, as lists of arguments."""
    found: dict[str, list[list[str]]] = {"called": [], "started": []}

    async def call(arguments: list[str]) -> str:
        found["called"].append(arguments)
        return "queued\n"

    monkeypatch.setattr("workbench.tui.study.actions.call", call)
    monkeypatch.setattr("workbench.process.start_detached", lambda argv, _: found["started"].append(argv[3:]))
    return found


@pytest.fixture
def storage(record):
    """``storage(name)``: creates an empty file as a study's storage."""

    def make(name: str) -> None:
        (record.folder / "studies").mkdir(parents=True)
        (record.folder / f"studies/{name}.db").write_bytes(b"")

    return make


@pytest.fixture
def hunt(record, storage, tmp_path):
    """A search of two trials, whose file is in the working directory."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies/hunt.toml").write_text(HUNT)
    values = [{"loss.fd.weight": 5.0, "loss.crd.weight": 2, "loss.mfd.mask_ratio": 0.5}, {"loss.fd.weight": 50.0}]
    record.study("hunt", {f"t{number:04d}": of for number, of in enumerate(values)}, seeds=1)
    storage("hunt")


async def read(pilot, soon) -> None:
    await soon(lambda: pilot.app.screen.study_state is not None)
    await pilot.pause()


@pytest.mark.usefixtures("hunt")
@pytest.mark.parametrize("size", [(80, 24), pytest.param((60, 20), marks=pytest.mark.slow)])
def test_values_are_checked_and_queued_and_the_study_resumes(drive, seen, soon, asked, record, size) -> None:
    async def steps(pilot) -> None:
        await read(pilot, soon)
        await pilot.press("G", "T")
        await pilot.pause()
        assert "loss.fd.weight: 1 to 100, log scale" in seen(pilot)
        fields = list(pilot.app.screen.query("Input"))
        assert [field.value for field in fields] in (["5", "2", "0.5"], ["50", "", ""])
        await pilot.press("ctrl+u", *"500")
        assert "= 500 is outside" in seen(pilot)
        assert pilot.app.screen.query_one("#yes").disabled
        await pilot.press("ctrl+u", *"7", "tab", "ctrl+u", *"3")
        assert "= 3 is outside" in seen(pilot)
        await pilot.press("ctrl+u", "tab", "ctrl+u", *"0.25")
        assert "Confirm" in seen(pilot)  # however small the terminal
        await pilot.press("ctrl+s")
        await soon(lambda: asked["started"])

    drive(steps, study="hunt", size=size)
    (called,) = asked["called"]
    assert called[:3] == ["sweep", "--study", "hunt"]
    tries = [called[place + 1] for place, word in enumerate(called) if word == "--try"]
    assert tries == ["loss.fd.weight=7", "loss.mfd.mask_ratio=0.25"]
    (started,) = asked["started"]
    assert "--resume" not in started
    assert started[-2:] == ["--runs", str(record.folder)]


def test_a_grid_takes_no_values_and_a_search_retries_by_values(record, drive, soon, asked, notices, storage) -> None:
    record.study("fd_weight", CELLS)
    storage("fd_weight")

    async def steps(pilot) -> None:
        await read(pilot, soon)
        await pilot.press("T")
        await pilot.pause()
        assert "only a search can try other values" in notices(pilot)
        await pilot.press("O")
        await pilot.pause()
        assert "no run of cell 0 failed or was stopped" in notices(pilot)

    drive(steps, study="fd_weight")
    assert asked == {"called": [], "started": []}


def test_the_cell_at_the_cursor_is_retried(record, drive, seen, soon, asked, storage) -> None:
    record.study("fd_weight", {"0": CELLS["0"]})
    record.study("fd_weight", {"10": CELLS["10"]}, state="failed", last=50)
    storage("fd_weight")

    async def steps(pilot) -> None:
        await read(pilot, soon)
        await pilot.press("j", "O")
        await pilot.pause()
        assert "retry 10?" in seen(pilot)
        assert "seed 0, 1" in seen(pilot)
        await pilot.press("n")
        assert asked["called"] == []
        await pilot.press("O", "y")
        await soon(lambda: asked["started"])

    drive(steps, study="fd_weight")
    (called,) = asked["called"]
    assert called[called.index("--retry") + 1] == "10"


def test_an_error_of_the_queue_is_shown(record, drive, soon, asked, notices, storage, monkeypatch) -> None:
    record.study("fd_weight", {"10": CELLS["10"]}, state="stopped", last=50)
    storage("fd_weight")

    async def refuse(_arguments: list[str]) -> str:
        await asyncio.sleep(0)
        raise ValueError("the storage is damaged")

    monkeypatch.setattr("workbench.tui.study.actions.call", refuse)

    async def steps(pilot) -> None:
        await read(pilot, soon)
        await pilot.press("j", "O", "y")
        await soon(lambda: "the storage is damaged" in notices(pilot))

    drive(steps, study="fd_weight")
    assert asked["started"] == []


@pytest.mark.usefixtures("asked")
def test_a_finished_study_is_not_resumed(record, drive, soon, asked, notices, storage) -> None:
    weights = {f"{weight}": {"loss.fd.weight": weight} for weight in (0, 10, 100, 1000, 2000, 3000)}
    record.study("fd_weight", weights, seeds=3)
    storage("fd_weight")

    async def steps(pilot) -> None:
        await read(pilot, soon)
        await pilot.press("R")
        await pilot.pause()
        assert "press A to add seeds" in notices(pilot)

    drive(steps, study="fd_weight")
    assert asked["started"] == []


def test_the_historys_metric_can_be_chosen(record, drive, seen, soon) -> None:
    record.study("fd_weight", CELLS)

    async def steps(pilot) -> None:
        await read(pilot, soon)
        await pilot.press("4")
        await soon(lambda: "image→text R@1 on validation" in seen(pilot))
        await pilot.press("m")
        await soon(lambda: "zero-shot top-1 on validation, mean over seeds" in seen(pilot))
        await pilot.press("M")
        await soon(lambda: "image→text R@1 on validation, mean over seeds" in seen(pilot))

    drive(steps, study="fd_weight", size=(110, 30))


@pytest.mark.usefixtures("hunt")
def test_the_history_of_a_search_shows_the_chosen_metric(drive, seen, soon) -> None:
    async def steps(pilot) -> None:
        await read(pilot, soon)
        await pilot.press("4")
        assert "image→text R@1 on validation, trial by trial" in seen(pilot)
        await pilot.press("m")
        await soon(lambda: "zero-shot top-1 on validation, trial by trial" in seen(pilot))
        (plot,) = pilot.app.screen.query_one("#curves").plots
        tried = next(curve for curve in plot.curves if curve.name == "tried")
        assert tried.value.tolist() == pytest.approx([5.0, 10.0])  # half of 0.1 and of 0.2, in per cent

    drive(steps, study="hunt", size=(110, 30))


def test_queued_values_are_read_from_the_storage(tmp_path) -> None:
    import optuna

    file = tmp_path / "hunt.db"
    study = optuna.create_study(study_name="hunt", storage=f"sqlite:///{file}")
    study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    study.enqueue_trial({"loss.fd.weight": 7.0, "loss.mfd.mask_ratio": 0.25})
    study.enqueue_trial({"loss.fd.weight": 8.5})
    assert queued_trials(file, "hunt") == ["loss.fd.weight=7 loss.mfd.mask_ratio=0.25", "loss.fd.weight=8.5"]
    assert queued_trials(file, "another") == []
    assert queued_trials(tmp_path / "none.db", "hunt") == []
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE trials (x)")
    assert queued_trials(tmp_path / "other.db", "hunt") == []
    shutil.copy(file, tmp_path / "torn.db")
    (tmp_path / "torn.db").write_bytes(file.read_bytes()[:3000])
    assert queued_trials(tmp_path / "torn.db", "hunt") == []


@pytest.mark.usefixtures("hunt")
@pytest.mark.parametrize(
    ("filled", "named"),
    [
        ({}, "at least one value"),
        ({"loss.fd.weight": "0.5"}, "1 to 100"),
        ({"loss.fd.weight": "nan"}, "1 to 100"),
        ({"loss.fd.weight": "many"}, "1 to 100"),
        ({"loss.crd.weight": "2.5"}, "in steps of 2"),
        ({"loss.crd.weight": "true"}, "in steps of 2"),
        ({"loss.mfd.mask_ratio": "0.3"}, "one of 0.25, 0.5"),
    ],
)
def test_values_outside_the_search_space_are_refused(filled, named) -> None:
    from workbench.runs.studies import load_study

    with pytest.raises(ValueError, match=named):
        overrides(load_study("hunt"), filled)
    assert overrides(load_study("hunt"), {"loss.crd.weight": "4", "loss.fd.weight": ""}) == ["loss.crd.weight=4"]
