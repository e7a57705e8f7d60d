import numpy as np
import pytest

from workbench.runs.probe_snapshots import Probe, Said, write_probe
from workbench.tui.charts.heat import HIGH, LOW, MINUS, PLUS, Heat, colours


def probe(step: int, num_pairs: int = 32) -> Probe:
    """The student's cosine of every picture with its own text is ``step`` of 128, the teacher's 0.75; others are 0."""

    def said(cosine: float, scale: float) -> Said:
        return Said(np.eye(num_pairs, dtype=np.float16), cosine * np.eye(num_pairs, dtype=np.float16), scale)

    captions = tuple(f"caption [/b] {number}" for number in range(num_pairs))
    return Probe(step, captions, said(step / 128, 10.0), said(0.75, 20.0))


def test_colours_span_the_values_and_a_difference_is_signed() -> None:
    found = colours(np.array([[0.0, 2.0], [1.0, 2.0]]), is_difference=False)
    assert found[0, 0].tolist() == list(LOW)
    assert found[0, 1].tolist() == list(HIGH)
    apart = colours(np.array([[-2.0, 0.0], [0.5, 2.0]]), is_difference=True)
    assert apart[0, 0].tolist() == list(MINUS)
    assert apart[1, 1].tolist() == list(PLUS)
    assert apart[0, 1].max() < 40


@pytest.mark.parametrize("size", [(80, 24), (60, 20), (30, 12)])
def test_the_matrices_the_cell_and_its_captions(record, drive, seen, soon, size) -> None:
    run = record("one")
    for step in (50, 100):
        write_probe(run, probe(step))

    async def steps(pilot) -> None:
        await pilot.press("6")
        await soon(lambda: "after step 100" in seen(pilot))
        heat = pilot.app.screen.query_one(Heat)
        assert heat.grid.names == ("student", "teacher", "difference")
        assert "(its own)" in seen(pilot) or size[0] < 50
        await pilot.press("j", "l", "l")
        assert (heat.place.picture, heat.place.text) == (1, 2)
        if size[0] > 50:
            assert "picture 2: caption [/b] 1" in seen(pilot)
            assert "text 3: caption [/b] 2" in seen(pilot)
        await pilot.press("d", "v")
        assert "cosines" in seen(pilot) or size[0] < 50
        assert "student 0.781  teacher 0.75" in seen(pilot)
        await pilot.press("comma")
        assert "after step 50" in seen(pilot)
        assert "student 0.391" in seen(pilot)
        await pilot.press("full_stop")
        write_probe(run, probe(90))
        await soon(lambda: "of 3" in seen(pilot) or size[0] < 50)

    drive(steps, run, size)


def test_the_mouse_chooses_a_cell_and_the_data_can_be_copied(record, drive, seen, soon) -> None:
    run = record("one")
    write_probe(run, probe(100, 8))

    async def steps(pilot) -> None:
        await pilot.press("6")
        await soon(lambda: "after step 100" in seen(pilot))
        heat = pilot.app.screen.query_one(Heat)
        await pilot.click(Heat, offset=(1 + 3 * heat.grid.zoom, 1 + 2 * heat.grid.zoom // 2))
        assert (heat.place.picture, heat.place.text) == (2, 3)
        await pilot.press("Y")
        assert len(pilot.app.clipboard.splitlines()) == 1 + 64

    drive(steps, run, (140, 45))
