import shutil
from pathlib import Path

import numpy as np
import pytest

from workbench.runs.directory import RunDirectory
from workbench.runs.snapshots import Probe, ProbeOutputs, read_snapshot_history, write_snapshot
from workbench.tui.charts.heat import CURSOR, NAMES, Grid, Heat
from workbench.tui.charts.images import Images
from workbench.tui.run.affinity import AffinityPane, read_images
from workbench.tui.run.pairs import Placement, nearest_text, placement_of
from workbench.views.affinity import AffinityView


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
        heat = pilot.app.screen.query_one(Heat)
        await soon(lambda: heat.view is not None)
        assert "after step 100" in seen(pilot)
        assert heat.grid.names == ("teacher", "student", "difference")
        await pilot.press("o")
        heat.move_to(0, 0)
        assert "(matching pair)" in seen(pilot) or size[0] < 50
        await pilot.press("j", "l", "l")
        assert (heat.place.image, heat.place.text) == (1, 2)
        if size[0] > 50:
            assert "image 2: caption [/b] 1" in seen(pilot)
            assert "text 3: caption [/b] 2" in seen(pilot)
        row = (heat.grid.entry_S.tolist().index(1) + 2) // 2  # of cells, below the titles
        shown = [segment.style for segment in heat.render_line(row) if segment.text == "▀"]
        pixels = [tuple(one.color.triplet) for one in shown], [tuple(one.bgcolor.triplet) for one in shown]
        at = heat.grid.entry_S.tolist().index(2)  # the third column
        assert pixels[heat.grid.entry_S.tolist().index(1) % 2][at] == CURSOR
        assert pixels[0][0] != CURSOR
        await pilot.press("d", "v")
        assert "cosines" in seen(pilot) or size[0] < 50
        assert "teacher 0.75  student 0.781" in seen(pilot)
        await pilot.press("comma")
        assert "after step 50" in seen(pilot)
        assert "student 0.391" in seen(pilot)
        await pilot.press("full_stop")
        write_snapshot(run, probe(90))
        await soon(lambda: "of 3 " in seen(pilot) or size[0] < 50)

    drive(steps, run, size)


def test_the_mouse_chooses_a_cell_and_the_data_can_be_copied(record, drive, soon) -> None:
    run = record("one")
    write_snapshot(run, probe(100, 8))

    async def steps(pilot) -> None:
        await pilot.press("6")
        heat = pilot.app.screen.query_one(Heat)
        await soon(lambda: heat.view is not None)
        entry = heat.grid.entry_S.tolist()
        at = (1 + heat.grid.left + entry.index(3), 1 + (entry.index(2) + 1) // 2)
        await pilot.click(Heat, offset=at)
        assert (heat.place.image, heat.place.text) == (2, 3)
        await pilot.click(Heat, offset=(at[0] + heat.grid.size + 2, at[1] - 1))  # in the second matrix
        assert heat.place.text == 3
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
        assert f" of text {pane.order[3] + 1} " in seen(pilot)
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


def test_where_not_all_pairs_fit_they_scroll_with_the_cursor(record, drive, seen, soon) -> None:
    run = record("one")
    write_snapshot(run, probe(100))

    async def steps(pilot) -> None:
        await pilot.press("6")
        heat = pilot.app.screen.query_one(Heat)
        await soon(lambda: heat.view is not None)
        await pilot.press("o")
        heat.move_to(31, 31)
        await pilot.resize_terminal(80, 24)
        await soon(lambda: heat.grid.num_pairs < 32)
        await pilot.pause()
        shown = heat.grid.num_pairs
        assert 0 < shown < 32
        assert (heat.place, heat.first) == ((31, 31), (32 - shown, 32 - shown))
        await soon(lambda: "image 32: caption [/b] 31" in seen(pilot))
        assert "32▸" in seen(pilot)
        heat.move_to(0, 31)
        await pilot.pause()
        assert heat.first == (0, 32 - shown)

    drive(steps, run, (140, 45))


def test_the_matrices_are_those_of_the_notebook(example, drive, soon) -> None:
    """The same panels, titles and order of pairs: those of its figure."""
    from workbench.figures.affinity import model_panels, probe_order
    from workbench.views.affinity import affinity_view

    of = read_snapshot_history(example, Probe).snapshots[-1]
    order = probe_order(of, "cluster")
    panels = model_panels(["student"], [of], [affinity_view(of)], order)

    async def steps(pilot) -> None:
        await pilot.press("6")
        heat = pilot.app.screen.query_one(Heat)
        await soon(lambda: heat.view is not None)
        for name, panel in zip(heat.grid.names, panels, strict=True):
            assert np.array_equal(getattr(heat.view, f"{name}_PP"), panel.matrix_MM)
            assert heat._titles[name].split()[0] == panel.title.split()[0]
        image = heat.place.image
        await pilot.press("j", "o")  # the cursor stays at its pair in another order
        assert heat.place.image == order[image + 1]

    drive(steps, example, (120, 36))


def test_in_a_light_theme_next_to_nothing_is_light_and_in_a_dark_one_dark(record, drive, soon) -> None:
    run = record("one")
    write_snapshot(run, probe(100))

    async def steps(pilot) -> None:
        await pilot.press("6")
        heat = pilot.app.screen.query_one(Heat)
        await soon(lambda: heat.view is not None)
        dark = heat._colors("teacher")[0, 5]
        await pilot.press("t")
        assert dark.max() < 60
        assert heat._colors("teacher")[0, 5].min() > 200
        assert heat._colors("difference")[0, 5].min() > 200

    drive(steps, run, (120, 36))


def test_the_items_go_where_the_matrices_leave_most_room() -> None:
    grid = Grid(32, NAMES, 32, has_axes=True)  # 104 columns, 19 rows
    assert placement_of(140, 38, grid, are_wanted=None) == Placement("below", 19)
    assert placement_of(140, 23, grid, are_wanted=None) == Placement("right", 34)
    assert placement_of(110, 21, grid, are_wanted=None) == Placement()
    assert placement_of(110, 21, grid, are_wanted=True) == Placement("right", 36, is_forced=True)
    assert placement_of(140, 38, grid, are_wanted=False) == Placement("below", 19)  # the texts alone


def test_the_nearest_texts_are_ranked_by_each_model() -> None:
    values_PP = np.array([[0.1, 0.7, 0.2], [0.0, 1.0, 0.0], [0.3, 0.3, 0.4]])
    view = AffinityView(1, ("red", "green", "blue"), "affinity", values_PP, values_PP[:, ::-1].copy())
    lines = nearest_text(view, 0, 8, 40, 9).plain.splitlines()
    assert lines[0] == "texts nearest to image 8"
    assert [line.split() for line in lines[1:5]] == [
        ["teacher:", "own", "text", "at", "rank", "2"],
        ["0.700", "green"],
        ["0.200", "●", "red"],
        ["0.100", "blue"],
    ]
    assert lines[5].split()[-1] == "3"
    assert len({len(line) for line in nearest_text(view, 0, 8, 100, 4).plain.splitlines()[2:]}) == 1
