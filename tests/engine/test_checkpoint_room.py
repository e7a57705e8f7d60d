from pathlib import Path

import pytest

from workbench.engine import build, checkpoint_room
from workbench.engine.build import build_cohort
from workbench.engine.checkpoint_room import checkpoints_bytes
from workbench.engine.fork import plan_fork
from workbench.engine.launch import launch, relaunch
from workbench.runs.directory import list_runs


def on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch):
    """``free(n)``: the disk has n bytes free."""

    def set_free(num_bytes: int) -> None:
        monkeypatch.setattr(checkpoint_room, "free_bytes", lambda _: num_bytes)

    return set_free


def test_the_room_reckoned_with_is_what_checkpoints_really_take(tiny, tmp_path: Path) -> None:
    """Two are kept while a third is written."""
    started = launch({"run": tiny(log={"checkpoint_every_steps": 4})}, tmp_path)
    for _ in started.events():
        pass
    run = started.directories["run"]
    (member,) = started.cohort.members
    assert len(list(run.checkpoints.iterdir())) == 2
    written = on_disk(run.checkpoints)
    assert 0.7 * written * 3 / 2 < checkpoints_bytes(member) < written * 3 / 2  # headers and buffers beside the tensors


@pytest.mark.parametrize(
    ("log", "at_a_time"),
    [({"checkpoint_every_steps": 0}, 2), ({"keep_checkpoints": 1}, 2), ({"checkpoint_every_steps": 1}, 3)],
)
def test_a_run_that_saves_seldom_or_keeps_few_needs_less(tiny, log: dict, at_a_time: int) -> None:
    (member,) = build_cohort({"run": tiny(log=log)}).members
    num_bytes = 4 * sum(p.numel() for p in member.state.parameters())
    assert checkpoints_bytes(member) == at_a_time * 3 * num_bytes


def test_too_small_a_disk_is_refused_before_the_data_are_read(tiny, tmp_path: Path, free, monkeypatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("the data were read")

    monkeypatch.setattr(build, "open_prepared", read)
    free(100_000)
    with pytest.raises(
        ValueError, match=r"^disk full at \S+: needs about \d\.\d MB, has .*log\.keep_checkpoints=1, .*--runs"
    ):
        launch({"run": tiny(log={"checkpoint_every_steps": 4})}, tmp_path / "runs")
    assert list_runs(tmp_path / "runs") == []


def test_members_of_a_cohort_fill_one_disk_together(tiny, tmp_path: Path, free) -> None:
    one = checkpoints_bytes(build_cohort({"run": tiny()}).members[0])
    free(one)
    launch({"alone": tiny()}, tmp_path)
    with pytest.raises(ValueError, match="disk full"):
        launch({"a": tiny(), "b": tiny()}, tmp_path)
    free(2 * one)
    launch({"a": tiny(), "b": tiny()}, tmp_path)


def test_what_a_resumed_or_forked_run_has_on_disk_already_is_room(tiny, tmp_path: Path, free) -> None:
    started = launch({"run": tiny(log={"checkpoint_every_steps": 4})}, tmp_path)
    for event in started.events():
        if event.step == 9:
            break
    run = started.directories["run"]
    (member,) = started.cohort.members
    missing = checkpoints_bytes(member) - on_disk(run.checkpoints)
    free(missing - 1)
    with pytest.raises(ValueError, match=r"disk full .*; make room there$"):
        relaunch(run)
    assert run.exists
    free(missing)
    relaunch(run)
    free(1000)
    planned = plan_fork(run, at=8)
    with pytest.raises(ValueError, match=r"disk full .*; make room there$"):
        planned.launch("forked")
    assert [found.id for found in list_runs(tmp_path)] == ["run"]


def test_a_run_that_is_not_kept_needs_no_disk(tiny, free) -> None:
    free(0)
    build_cohort({"run": tiny()})
