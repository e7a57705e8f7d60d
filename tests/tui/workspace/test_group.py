"""The curves of several runs: letters, colors, x axes, and means with their bands against numpy."""

import numpy as np
import pytest

from workbench.runs.directory import RunDirectory
from workbench.tui.charts.plot import Curve
from workbench.tui.workspace.group import RunGroup, color_of, means


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
    group.show(runs[2:])  # hiding the others changes nothing
    assert {one.name: (one.letter, one.color) for one in group.plot(("loss", "total")).curves} == {
        "three": everywhere["three"]
    }


def test_twenty_runs_have_twenty_colors() -> None:
    assert len({color_of(place) for place in range(20)}) == 20


def test_a_curve_has_every_x_axis(record, done) -> None:
    run = record("one", last=0, state="")
    record.log("one", *(done("one", step, time_s=1e9 + 60 * step) for step in (10, 20, 40)))
    (curve,) = followed([run]).plot(("loss", "total")).curves
    assert curve.along("step").tolist() == [10, 20, 40]
    assert curve.along("pairs").tolist() == [200, 400, 800]  # of 20 pairs a step
    assert curve.along("time").tolist() == pytest.approx([1, 2, 4])
    assert curve.along("clock").tolist() == pytest.approx([1e9 + 600, 1e9 + 1200, 1e9 + 2400])


def curve_of(name: str, step: list[float], value: list[float]) -> Curve:
    at, values = np.array(step, dtype=np.float64), np.array(value, dtype=np.float64)
    return Curve(name, "#000000", at, at, values)


def test_a_group_is_its_mean_with_the_least_and_greatest_run_as_a_band() -> None:
    curves = [
        curve_of("a0", [0, 10, 20], [0, 10, 20]),
        curve_of("a1", [0, 10, 20], [2, 10, 24]),
        curve_of("b0", [0, 20], [5, 5]),
    ]
    both, alone = means(curves, "step", {"a0": "a", "a1": "a", "b0": "b"})
    assert both.name == "a (2)"
    assert both.value.tolist() == [1, 10, 22]
    assert both.band is not None
    assert both.band.tolist() == [[0, 10, 20], [2, 10, 24]]
    assert (alone.name, alone.band) == ("b", None)
    (same,) = means(curves[2:], "step", {"a0": "a", "b0": "b"})  # where no run of the other group has the curve
    assert (same.letter, same.color) == (alone.letter, alone.color)


def test_runs_of_other_steps_are_interpolated_where_all_have_values() -> None:
    curves = [curve_of("a0", [0, 10, 20], [0, 10, 20]), curve_of("a1", [5, 15], [5, 15])]
    (mean,) = means(curves, "step", {"a0": "a", "a1": "a"})
    assert mean.step.tolist() == [5, 10, 15]
    assert mean.value.tolist() == [5, 10, 15]
    apart = [curve_of("a0", [0, 1], [0, 1]), curve_of("a1", [5, 6], [0, 1])]
    assert means(apart, "step", {"a0": "a", "a1": "a"}) == []
