import shutil
from pathlib import Path

import numpy as np
import pytest

from workbench.runs.directory import RunDirectory
from workbench.runs.snapshots import Probe, ProbeOutputs, read_snapshot_history, write_snapshot
from workbench.tui.charts.heat import (
    CURSOR,
    NAMES,
    Grid,
    Heat,
    Images,
)
from workbench.tui.run.affinity import AffinityPane, placement_of, read_images


def probe(step: int, num_pairs: int = 32) -> Probe:
    """The student's cosine of every image with its own text is ``step`` of 128, the teacher's 0.75; others are 0."""

    def outputs(cosine: float, scale: float) -> ProbeOutputs:
        return ProbeOutputs(np.eye(num_pairs, dtype=np.float16), cosine * np.eye(num_pairs, dtype=np.float16), scale)

    captions = tuple(f"caption [/b] {number}" for number in range(num_pairs))
    return Probe(step, captions, outputs(step / 128, 10.0), outputs(0.75, 20.0))


@pytest.mark.parametrize("size", [(80, 24), (60, 20), (30, 12)])
def test_the_matrices_the_cell_and_its_captions(record, drive, seen, soon, size) -> None:
    run = record("one")
    for step in (50, 100):
        write_snapshot(run, probe(step))

    async def steps(pilot) -> None:
        await pilot.press("6")
        await soon(lambda: "after step 100" in seen(pilot))
        heat = pilot.app.screen.query_one(Heat)
        assert heat.grid.names == ("student", "teacher", "difference")
        assert "(matching pair)" in seen(pilot) or size[0] < 50
        await pilot.press("j", "l", "l")
        assert (heat.place.image, heat.place.text) == (1, 2)
        if size[0] > 50:
            assert "image 2: caption [/b] 1" in seen(pilot)
            assert "text 3: caption [/b] 2" in seen(pilot)
        above = [segment.style.color.triplet for segment in heat.render_line(1) if segment.text == "▀"]
        below = [segment.style.bgcolor.triplet for segment in heat.render_line(1) if segment.text == "▀"]
        assert tuple(below[2]) == CURSOR  # the second row's third column
        assert CURSOR not in map(tuple, above)
        await pilot.press("d", "v")
        assert "cosines" in seen(pilot) or size[0] < 50
        assert "student 0.781  teacher 0.75" in seen(pilot)
        await pilot.press("comma")
        assert "after step 50" in seen(pilot)
        assert "student 0.391" in seen(pilot)
        await pilot.press("full_stop")
        write_snapshot(run, probe(90))
        await soon(lambda: "of 3" in seen(pilot) or size[0] < 50)

    drive(steps, run, size)


def test_the_mouse_chooses_a_cell_and_the_data_can_be_copied(record, drive, seen, soon) -> None:
    run = record("one")
    write_snapshot(run, probe(100, 8))

    async def steps(pilot) -> None:
        await pilot.press("6")
        await soon(lambda: "after step 100" in seen(pilot))
        heat = pilot.app.screen.query_one(Heat)
        await pilot.click(Heat, offset=(1 + 3 * heat.grid.zoom, 1 + 2 * heat.grid.zoom // 2))
        assert (heat.place.image, heat.place.text) == (2, 3)
        await pilot.press("Y")
        assert len(pilot.app.clipboard.splitlines()) == 1 + 64

    drive(steps, run, (140, 45))


EXAMPLE = Path(__file__).parents[3] / "data_samples/runs/example-clip-kd"


@pytest.fixture
def example(record):
    """A shipped run, whose probe pairs are of the shipped samples."""
    shutil.copytree(EXAMPLE, record.folder / "example")
    return RunDirectory(record.folder / "example")


@pytest.mark.parametrize("size", [(80, 24), pytest.param((140, 45), marks=pytest.mark.slow)])
def test_the_images_of_the_cell_are_shown(example, drive, seen, soon, size) -> None:
    async def steps(pilot) -> None:
        await pilot.press("6")
        pane = pilot.app.screen.query_one(AffinityPane)
        await soon(lambda: len(pane._images) == 32)
        images = pilot.app.screen.query_one(Images)
        assert images.display == (size[1] > 40)  # where there is room, without being asked for
        if not images.display:
            await pilot.press("i")
        await pilot.pause()
        assert images.display
        assert images.region.right <= size[0]
        assert "image 1" in seen(pilot)
        await pilot.press("l", "l", "l")
        assert " of text 4" in seen(pilot)
        await pilot.press("i")
        await pilot.pause()
        assert not images.display
        await pilot.resize_terminal(30, 12)
        await pilot.press("i", "G", "escape")
        await pilot.pause()

    drive(steps, example, size)


def test_the_images_are_those_of_the_dataset(example) -> None:
    from workbench.data.spec import open_dataset

    captions = read_snapshot_history(example, Probe).snapshots[-1].captions
    dataset = open_dataset("samples:scenes", "validation", len(captions))
    found = read_images(example, captions)
    assert len(found) == len(captions)
    for place in (0, 5, 31):
        assert dataset.text(place).captions[0] == captions[place]
        assert np.array_equal(found[place], np.asarray(dataset[place].image))


def test_without_images_a_notice_gives_the_reason(record, drive, soon, notices) -> None:
    run = record("one", settings={"data": {"validation": "/no/such/pairs.csv"}})
    write_snapshot(run, probe(100, 8))

    async def steps(pilot) -> None:
        await pilot.press("6")
        await soon(lambda: bool(pilot.app.screen.query_one(AffinityPane)._no_images_reason))
        await pilot.press("i")
        await pilot.pause()
        assert "no images: " in notices(pilot)
        assert "/no/such/pairs.csv" in notices(pilot)
        assert not pilot.app.screen.query_one(Images).display

    drive(steps, run, (140, 45))


def test_the_cursor_moves_into_a_smaller_grid(record, drive, seen, soon) -> None:
    run = record("one")
    write_snapshot(run, probe(100))

    async def steps(pilot) -> None:
        await pilot.press("6")
        await soon(lambda: "after step 100" in seen(pilot))
        heat = pilot.app.screen.query_one(Heat)
        heat.move_to(31, 31)
        await pilot.resize_terminal(60, 20)
        await soon(lambda: "the first" in seen(pilot))
        assert max(heat.place) == heat.grid.num_pairs - 1 < 31
        assert f"image {heat.grid.num_pairs}: caption" in seen(pilot)

    drive(steps, run, (140, 45))


def test_images_go_where_the_matrices_leave_room() -> None:
    grid = Grid(32, NAMES, 1)  # 100 columns, 17 rows
    assert placement_of(140, 36, grid, are_wanted=None) == ("below", 19)
    assert placement_of(140, 21, grid, are_wanted=None) == ("right", 38)
    assert placement_of(110, 21, grid, are_wanted=None) == ("", 0)
    assert placement_of(110, 21, grid, are_wanted=True) == ("right", 21)
    assert placement_of(140, 36, grid, are_wanted=False) == ("", 0)
